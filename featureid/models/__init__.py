"""Models: their bundles, the models known by name, and the backends that run them."""

from __future__ import annotations

from featureid.models.backends.base import Backend
from featureid.models.backends.registry import (
    BACKENDS,
    backend_for,
    check_backend,
    open_backend,
    open_backends,
)
from featureid.models.bundle import (
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    read_bundle,
    write_bundle,
)
from featureid.models.preprocessing import Preprocessing
from featureid.models.zoo import known_models, resolve_model

__all__ = [
    "BACKENDS",
    "BUNDLE_SUFFIX",
    "Backend",
    "ModelBundle",
    "Preprocessing",
    "backend_for",
    "bundle_file_name",
    "check_backend",
    "known_models",
    "open_backend",
    "open_backends",
    "read_bundle",
    "resolve_model",
    "write_bundle",
]
