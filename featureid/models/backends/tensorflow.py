"""The GPU backend: TensorFlow, which uses the GPU if there is one and all cores otherwise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.backends.base import check_batch, check_shape
from featureid.models.bundle import ModelBundle
from featureid.models.keras_archive import read_keras_archive

# TensorFlow's kernels round differently for different batch sizes, so every call uses the same.
_ROWS_ON_GPU = 64
_ROWS_ON_CPU = 8


class TensorFlowBackend:
    """A model as a TensorFlow function.

    Opening one turns off TensorFloat-32 in the process: it would cost three digits of accuracy, and
    vectors from GPUs must be comparable with those from CPUs.

    Args:
        bundle: the model.
        output: which output of the network :meth:`embed` returns.

    Raises:
        ModelError: TensorFlow is not installed, or the network cannot be used.
    """

    concurrent: ClassVar[bool] = False

    def __init__(self, bundle: ModelBundle, output: str = "embedding") -> None:
        """Load the model."""
        tf = import_tensorflow("models cannot run on TensorFlow")
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._bundle = bundle
        self._rows = _ROWS_ON_GPU if tf.config.list_physical_devices("GPU") else _ROWS_ON_CPU
        model = load_keras_model(bundle)
        size = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
        check_shape(bundle, "input", model.input_shape, (None, *size))
        if output not in model.output:
            raise ModelError(f"model {bundle.name!r} has no output {output!r}")
        if output == "embedding":
            check_shape(bundle, output, model.output[output].shape, (None, bundle.dimension))
        self._width = int(model.output[output].shape[-1])
        mean = tf.constant(bundle.preprocessing.mean, tf.float32)
        std = tf.constant(bundle.preprocessing.std, tf.float32)

        @tf.function(input_signature=[tf.TensorSpec((self._rows, *size), tf.uint8)])  # type: ignore[untyped-decorator]
        def run(pixels: Any) -> Any:
            return model((tf.cast(pixels, tf.float32) - mean) / std, training=False)[output]

        self._run = run

    def embed(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors of ``batch``; see :meth:`featureid.models.Backend.embed`."""
        check_batch(batch, self._bundle)
        vectors = np.empty((len(batch), self._width), np.float32)
        for start in range(0, len(batch), self._rows):
            rows = batch[start : start + self._rows]
            padded = np.zeros((self._rows, *rows.shape[1:]), np.uint8)
            padded[: len(rows)] = rows
            vectors[start : start + len(rows)] = self._run(padded).numpy()[: len(rows)]
        return vectors


def import_tensorflow(what_for: str) -> Any:
    """Return the ``tensorflow`` module, with its log limited to errors unless the user set a level.

    Raises:
        ModelError: TensorFlow is not installed; the message starts with ``what_for``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise ModelError(f"{what_for}: {error}; pip install tensorflow") from error
    return tensorflow


def load_keras_model(bundle: ModelBundle) -> Any:
    """Return the bundle's ``keras.Model``, whose output is a dictionary.

    Raises:
        BundleError: the file uses anything but known layers.
        ModelError: Keras cannot load it.
    """
    read_keras_archive(bundle.keras)
    import keras

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"  # Keras reads files only
            path.write_bytes(bundle.keras)
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a bad config can make Keras raise anything
        raise ModelError(f"model {bundle.name!r} cannot be loaded by Keras: {error}") from error
    if not isinstance(model.output, dict):
        raise ModelError(f"model {bundle.name!r} does not name its outputs; build the bundle again")
    return model
