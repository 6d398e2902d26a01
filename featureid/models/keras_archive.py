"""Check that a ``.keras`` file can only compute, without importing Keras.

A ``.keras`` file is a zip of ``metadata.json``, ``config.json`` and ``model.weights.h5``.  Keras
imports and calls what ``config.json`` names, and its own ``safe_mode`` has been bypassed more than
once (CVE-2025-1550, CVE-2025-8747), so here only listed classes pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featureid.errors import BundleError
from featureid.models.archive import read_stored_zip
from featureid.stored_json import decode_json

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_LAYERS = (
    "Activation",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "InputLayer",
    "MaxPooling2D",
    "ReLU",
    "Rescaling",
    "ZeroPadding2D",
)
_INITIALIZERS = (
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "VarianceScaling",
    "Zeros",
)
_ALLOWED = {
    ("keras", "DTypePolicy"),
    ("keras", "Functional"),
    ("keras", "Sequential"),
    ("keras.src.models.functional", "Functional"),
    ("keras.regularizers", "L2"),
    *(("keras.layers", name) for name in _LAYERS),
    *(("keras.initializers", name) for name in _INITIALIZERS),
}
# How Keras writes a connection between layers: the name of a layer's output; it builds nothing.
_WIRING = "__keras_tensor__"


def read_keras_archive(data: bytes) -> dict[str, bytes]:
    """Return the members of a ``.keras`` file after checking every class that Keras would build.

    Raises:
        BundleError: not a ``.keras`` file, or it names a class that is not listed.
    """
    try:
        members = read_stored_zip(data, _MEMBERS)
        if not members["model.weights.h5"].startswith(_HDF5_MAGIC):
            raise BundleError("its weights are not an HDF5 file")
        config = decode_json(members["config.json"], dict[str, Any])
        if "class_name" not in config:
            raise BundleError("config.json has no model")
        for node in _objects(config):
            _check_class(node)
    except BundleError as error:
        raise BundleError(f"its Keras model is refused: {error}") from error
    except ValueError as error:
        raise BundleError(f"its Keras model is refused: config.json: {error}") from error
    return members


def _objects(config: object) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in ``config``, itself included, at any depth."""
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _check_class(node: dict[str, Any]) -> None:
    if "class_name" not in node:
        return
    module, name = node.get("module"), node["class_name"]
    if name == _WIRING and "module" not in node and "registered_name" not in node:
        return
    if not (isinstance(name, str) and (module, name) in _ALLOWED):
        raise BundleError(
            f"class {module}.{name} is not allowed; a bundle may use only the Keras layers "
            f"{', '.join(_LAYERS)}"
        )
    if node.get("registered_name") not in (None, name):
        raise BundleError(f"custom object {node['registered_name']!r} is not allowed")
