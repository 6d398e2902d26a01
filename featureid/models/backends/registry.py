"""The backends by name.

To add one, write a module with a class derived from :class:`Backend` and enter it in
:data:`BACKENDS`.  A backend's module imports its runtime only when a model is opened, so importing
this one stays cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from featureid.errors import UsageError
from featureid.models.backends.base import Backend, Output
from featureid.models.backends.litert import LiteRTBackend
from featureid.models.backends.onnx import OnnxBackend, OnnxCudaBackend
from featureid.models.bundle import ONNX, TFLITE, ModelBundle

BACKENDS: Mapping[str, type[Backend]] = MappingProxyType(
    {"onnx": OnnxBackend, "onnx-cuda": OnnxCudaBackend, "litert": LiteRTBackend}
)
_DEFAULTS = {ONNX: "onnx", TFLITE: "litert"}


def backend_for(bundle: ModelBundle, name: str | None = None) -> str:
    """Return the name of the backend that runs a model.

    Args:
        bundle: the model.
        name: the one that was asked for; None for the one that its network needs, on a CPU.

    Raises:
        UsageError: there is no backend of that name, or it cannot run the network.
    """
    if name is None:
        return _DEFAULTS[bundle.network.file]
    check_backend(name)
    if BACKENDS[name].file != bundle.network.file:
        able = [known for known, kind in BACKENDS.items() if kind.file == bundle.network.file]
        raise UsageError(
            f"the backend {name} runs {BACKENDS[name].file}, but model {bundle.name!r} has "
            f"{bundle.network.file}; choose {' or '.join(able)}"
        )
    return name


def open_backend(
    bundle: ModelBundle, name: str | None = None, output: Output = "embedding"
) -> Backend:
    """Load the model of ``bundle``, for one thread at a time.

    Args:
        bundle: the model.
        name: ``onnx`` or ``litert`` for CPUs, ``onnx-cuda`` for a GPU; None for the one that the
            network needs, on a CPU.
        output: ``embedding``, or ``pooled`` for the network's features before the reduction.

    Raises:
        UsageError: there is no backend of that name, or it cannot run the network.
        ModelError: the backend's runtime is not installed, or the network cannot be used.
    """
    return BACKENDS[backend_for(bundle, name)](bundle, output)


def open_backends(bundle: ModelBundle, name: str | None, threads: int) -> list[Backend]:
    """Load the model of ``bundle`` for so many threads, each of which takes one of the result.

    Raises:
        UsageError, ModelError: as :func:`open_backend`.
    """
    return BACKENDS[backend_for(bundle, name)].open_for(bundle, threads)


def check_backend(name: str) -> None:
    """Raise UsageError unless there is a backend called ``name``."""
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
