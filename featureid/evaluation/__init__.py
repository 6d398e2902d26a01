"""How good feature IDs are on labeled images, and what their scores mean: figures, calibrations."""
