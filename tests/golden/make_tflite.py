"""Make ``tiny.tflite``: ``python -m tests.golden.make_tflite``; needs TensorFlow.

It is the network of ``tests/tiny_networks.py``, without its reduction. The file was converted by
TensorFlow 2.21.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tests.tiny_networks import HEIGHT, WIDTH, weights

if __name__ == "__main__":
    values = weights()
    kernel, bias = values["kernel"].transpose(2, 3, 1, 0), values["bias"]

    def run(pixels: tf.Tensor) -> tf.Tensor:
        """Return the features."""
        x = tf.nn.relu6(tf.nn.conv2d(pixels, kernel, 2, "SAME") + bias)
        return tf.reduce_mean(x, (1, 2))

    pixels = tf.TensorSpec((1, HEIGHT, WIDTH, 3), tf.float32, "pixels")
    concrete = tf.function(run).get_concrete_function(pixels)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    Path(__file__).with_name("tiny.tflite").write_bytes(converter.convert())
