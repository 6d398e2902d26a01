"""The backends, which run the network of a bundle: one module each."""
