"""The backend of LiteRT networks, with XNNPACK, on CPUs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.backends.base import Backend, check_declared, check_shapes
from featureid.models.bundle import TFLITE, ModelBundle


class LiteRTBackend(Backend):
    """A model in a LiteRT interpreter of one thread."""

    file: ClassVar[str] = TFLITE

    def _load(self, bundle: ModelBundle) -> tuple[int, bool]:
        try:
            self._interpreter = open_interpreter(bundle.network.data)
        except ModelError as error:
            raise ModelError(f"model {bundle.name!r} {error}") from error
        sources = self._interpreter.get_input_details()
        targets = {item["name"]: item for item in self._interpreter.get_output_details()}
        network = bundle.network
        names = [source["name"] for source in sources]
        check_declared(bundle, "inputs", names, [network.input.name])
        if network.output not in targets:
            check_declared(bundle, "outputs", [*targets], network.output)
        (source,), target = sources, targets[network.output]
        check_declared(bundle, "input's type", source["dtype"].__name__, network.input.dtype)
        check_declared(bundle, "output's type", target["dtype"].__name__, "float32")
        check_shapes(bundle, source["shape"].tolist(), target["shape"].tolist())
        self._source, self._target = source["index"], target["index"]
        return int(source["shape"][0]), True

    def _run(self, inputs: npt.NDArray[np.float32 | np.uint8]) -> npt.NDArray[np.float32]:
        self._interpreter.set_tensor(self._source, inputs)
        self._interpreter.invoke()
        vectors: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._target)
        return vectors


def open_interpreter(data: bytes) -> Any:
    """Load a LiteRT network, for one thread at a time.

    Raises:
        ModelError: it cannot be loaded; or ``ai-edge-litert`` is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ModelError(
            f"is a LiteRT network: {error}; pip install 'featureid[litert]'"
        ) from error
    try:
        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(
            f"cannot be loaded by LiteRT: {' '.join(str(error).split())}; upgrade ai-edge-litert, "
            "or make the file again"
        ) from error
    return interpreter
