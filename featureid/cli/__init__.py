"""The ``featureid`` command: one module per command."""
