"""Training models of one's own; needs the extra ``train``, Keras and TensorFlow."""
