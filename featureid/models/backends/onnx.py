"""The backends of ONNX networks: ONNX Runtime, on CPUs and on NVIDIA GPUs."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.backends.base import Backend, check_declared, check_shapes
from featureid.models.bundle import ONNX, ModelBundle

# Images of so many pixels together go through a network at a time: 1 of 224 x 224, 4 of 150 x 150.
# More are not faster (benchmarks/models.py), and every one needs up to 11 MB while it is computed.
_PIXELS_PER_CALL = 90_000
_MAX_ROWS = 8
# cuDNN may compute differently for different batch sizes, so every call has the same.
_ROWS_ON_GPU = 64
_SILENT = 4  # what goes wrong is raised, too
_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}


class OnnxBackend(Backend):
    """A model in a session of ONNX Runtime on the CPU.

    A call computes on the thread that makes it, and any number of threads may use one object at a
    time: they share its weights.
    """

    file: ClassVar[str] = ONNX

    @classmethod
    def open_for(cls, bundle: ModelBundle, threads: int) -> list[Backend]:
        """Return one object as many times, since it serves any number of threads at a time."""
        return [cls(bundle)] * threads

    def _load(self, bundle: ModelBundle) -> tuple[int, bool]:
        self._open(bundle, ["CPUExecutionProvider"])
        batch = bundle.network.input.batch
        if batch is not None:
            return batch, True
        pixels = bundle.preprocessing.height * bundle.preprocessing.width
        return min(max(1, _PIXELS_PER_CALL // pixels), _MAX_ROWS), False

    def _run(self, inputs: npt.NDArray[np.float32 | np.uint8]) -> npt.NDArray[np.float32]:
        network = self._bundle.network
        outputs = self._session.run([network.output], {network.input.name: inputs})
        vectors: npt.NDArray[np.float32] = outputs[0]
        return vectors

    def _open(self, bundle: ModelBundle, providers: list[Any]) -> None:
        import_onnxruntime()  # that it is missing is no fault of the model
        try:
            self._session = open_session(bundle.network.data, providers)
        except ModelError as error:
            raise ModelError(
                f"model {bundle.name!r} {error}; build the bundle again, or upgrade onnxruntime"
            ) from error
        _check_network(bundle, self._session)
        _return_freed_memory()


class OnnxCudaBackend(OnnxBackend):
    """A model in a session of ONNX Runtime on an NVIDIA GPU.

    TensorFloat-32 is off: it would cost three digits of accuracy, and vectors from GPUs must be
    comparable with those from CPUs.
    """

    @classmethod
    def open_for(cls, bundle: ModelBundle, threads: int) -> list[Backend]:
        """Return one object: threads take turns with the GPU."""
        return [cls(bundle)]

    def _load(self, bundle: ModelBundle) -> tuple[int, bool]:
        runtime = import_onnxruntime()
        provider = "CUDAExecutionProvider"
        if provider not in runtime.get_available_providers():
            raise ModelError(
                "the backend onnx-cuda needs onnxruntime-gpu in place of onnxruntime; run: pip "
                "uninstall onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
            )
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            runtime.preload_dlls()
        self._open(bundle, [(provider, {"use_tf32": "0"})])
        # ONNX Runtime takes the CPU silently if a GPU or its libraries cannot be used.
        if provider not in self._session.get_providers():
            raise ModelError(
                "the backend onnx-cuda found no GPU that it can use, or not the libraries that "
                "onnxruntime-gpu needs (CUDA and cuDNN)"
            )
        return bundle.network.input.batch or _ROWS_ON_GPU, True


def import_onnxruntime() -> Any:
    """Return the ``onnxruntime`` module.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"models cannot run: {error}; pip install onnxruntime") from error
    return onnxruntime


def open_session(data: bytes, providers: list[Any]) -> Any:
    """Load an ONNX network for one thread at a time.

    Args:
        data: the whole file.
        providers: what runs it.

    Raises:
        ModelError: it cannot be loaded; or ``onnxruntime`` is not installed.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # a bad network can make it raise anything
        raise ModelError(f"cannot be loaded by ONNX Runtime: {_one_line(error)}") from error


def _check_network(bundle: ModelBundle, session: Any) -> None:
    network = bundle.network
    sources = session.get_inputs()
    check_declared(bundle, "inputs", [source.name for source in sources], [network.input.name])
    (source,) = sources
    check_declared(bundle, "input's type", source.type, _TYPES[network.input.dtype])
    targets = {target.name: target for target in session.get_outputs()}
    if network.output not in targets:
        check_declared(bundle, "outputs", [*targets], network.output)
    target = targets[network.output]
    check_declared(bundle, "output's type", target.type, _TYPES["float32"])
    check_shapes(bundle, _known(source.shape), _known(target.shape))


def _return_freed_memory() -> None:
    """Give back to the system what loading a network needed: twice its size, which glibc keeps."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _known(shape: list[int | str | None]) -> list[int | None]:
    """Return a shape with None for the lengths that have a name or none."""
    return [length if isinstance(length, int) else None for length in shape]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
