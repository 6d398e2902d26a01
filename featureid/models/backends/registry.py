"""The backends by name, each imported only when it is opened."""

from __future__ import annotations

from featureid.errors import UsageError
from featureid.models.backends.base import Backend, BackendKind
from featureid.models.bundle import ModelBundle


def open_backend(bundle: ModelBundle, kind: BackendKind = "litert") -> Backend:
    """Load the model of ``bundle``.

    Args:
        bundle: the model.
        kind: ``litert`` for CPUs, one core per object; ``tensorflow`` for a GPU (or all cores).

    Raises:
        UsageError: ``kind`` is neither.
        ModelError: the backend is not installed, or the bundle's network is not what it says.
    """
    if kind == "litert":
        from featureid.models.backends.litert import LiteRTBackend

        return LiteRTBackend(bundle)
    if kind == "tensorflow":
        from featureid.models.backends.tensorflow import TensorFlowBackend

        return TensorFlowBackend(bundle)
    raise UsageError(f"unknown backend {kind!r}; known: litert, tensorflow")
