"""Models: the bundle that holds one, the ones known by name, and the back ends that run them."""

from __future__ import annotations

from featureid.models.backends.base import Backend, BackendKind
from featureid.models.backends.registry import open_backend
from featureid.models.bundle import (
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    load_bundle,
    read_bundle,
    write_bundle,
)
from featureid.models.preprocessing import FaceCrop, Preprocessing
from featureid.models.zoo import KnownModel, known_models, resolve_model

__all__ = [
    "BUNDLE_SUFFIX",
    "Backend",
    "BackendKind",
    "FaceCrop",
    "KnownModel",
    "ModelBundle",
    "Preprocessing",
    "bundle_file_name",
    "known_models",
    "load_bundle",
    "open_backend",
    "read_bundle",
    "resolve_model",
    "write_bundle",
]
