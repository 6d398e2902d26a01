"""Runnable pipelines and the command line: options in, a run out."""
