"""The CPU backend: LiteRT with XNNPACK, one thread per object, without TensorFlow."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.backends.base import check_batch, check_shape
from featureid.models.bundle import ModelBundle


class LiteRTBackend:
    """A model in a LiteRT interpreter.

    The interpreter runs one image at a time.  For convolutional networks of this size that is at
    least as fast as larger batches (``benchmarks/models.py`` compares them), takes less memory, and
    makes a vector independent of its batch by construction.

    Args:
        bundle: the model.
        output: which output of the network :meth:`embed` returns.

    Raises:
        ModelError: ``ai-edge-litert`` is not installed, or the network cannot be used.
    """

    concurrent: ClassVar[bool] = True

    def __init__(self, bundle: ModelBundle, output: str = "embedding") -> None:
        """Load the model."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError(
                f"models cannot run on the CPU: {error}; pip install ai-edge-litert"
            ) from error
        self._bundle = bundle
        try:
            self._interpreter = Interpreter(model_content=bundle.litert, num_threads=1)
            self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_runner()
            (source,) = signature.get_input_details().values()
            target = signature.get_output_details()[output]
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"model {bundle.name!r} cannot be loaded by LiteRT: {error!r}; build the bundle "
                "again, or upgrade ai-edge-litert"
            ) from error
        size = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
        check_shape(bundle, "input", tuple(source["shape"].tolist()), (1, *size))
        if output == "embedding":
            check_shape(bundle, output, tuple(target["shape"].tolist()), (1, bundle.dimension))
        self._input = source["index"]
        self._output = target["index"]
        self._width = int(target["shape"][-1])

    def embed(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors of ``batch``; see :meth:`featureid.models.Backend.embed`."""
        check_batch(batch, self._bundle)
        vectors = np.empty((len(batch), self._width), np.float32)
        for row, image in enumerate(batch):
            pixels = self._bundle.preprocessing.scale(image[np.newaxis])
            self._interpreter.set_tensor(self._input, pixels)
            self._interpreter.invoke()
            vectors[row] = self._interpreter.get_tensor(self._output)[0]
        return vectors
