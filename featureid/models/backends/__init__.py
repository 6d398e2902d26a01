"""Backends: what runs the network of a bundle, one module each."""
