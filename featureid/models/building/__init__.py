"""Building bundles from published weights, in a separate process."""
