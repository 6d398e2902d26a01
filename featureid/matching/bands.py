"""The threshold of duplicates where no calibration of the model is known."""

DEFAULT_THRESHOLD = 0.90
