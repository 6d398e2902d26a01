"""Jobs: turn options into a pipeline, run it, and return its result."""
