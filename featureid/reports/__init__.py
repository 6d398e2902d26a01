"""Results to look at: one HTML page of any of them, that opens from a disk or a bucket."""
