"""The backends by name.

To add one, write a module with a class that satisfies :class:`Backend` and enter it in
:data:`BACKENDS`.  A backend's module imports its runtime only when a model is opened, so importing
this one stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from featureid.errors import UsageError
from featureid.models.backends.base import Backend
from featureid.models.backends.litert import LiteRTBackend
from featureid.models.backends.tensorflow import TensorFlowBackend
from featureid.models.bundle import ModelBundle

BACKENDS: Mapping[str, Callable[[ModelBundle], Backend]] = MappingProxyType(
    {"litert": LiteRTBackend, "tensorflow": TensorFlowBackend}
)
DEFAULT_BACKEND = "litert"


def open_backend(bundle: ModelBundle, name: str = DEFAULT_BACKEND) -> Backend:
    """Load the model of ``bundle``.

    Args:
        bundle: the model.
        name: ``litert`` for CPUs, one core per object; ``tensorflow`` for a GPU (or all cores).

    Raises:
        UsageError: there is no backend of that name.
        ModelError: the backend's runtime is not installed, or the network cannot be used.
    """
    check_backend(name)
    return BACKENDS[name](bundle)


def check_backend(name: str) -> None:
    """Raise UsageError unless there is a backend called ``name``."""
    if name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}; known: {', '.join(BACKENDS)}")
