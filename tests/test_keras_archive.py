"""Which classes a Keras file inside a bundle may name."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from typing import Any

import pytest

from featureid.errors import BundleError
from featureid.models.archive import write_stored_zip
from featureid.models.keras_archive import read_keras_archive

_WEIGHTS = b"\x89HDF\r\n\x1a\n"


def _layer(class_name: str, module: str = "keras.layers", **extra: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": {"name": "x"}, **extra}


def _members(*layers: dict[str, Any], **top: Any) -> dict[str, bytes]:
    config = {
        "module": "keras",
        "class_name": "Functional",
        "config": {"layers": list(layers)},
        "registered_name": "Functional",
        **top,
    }
    return {
        "metadata.json": b"{}",
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": _WEIGHTS,
    }


def test_plain_layers_pass() -> None:
    wiring = {"class_name": "__keras_tensor__", "config": {"shape": [None, 8]}}
    members = _members(_layer("Dense", registered_name=None), {"inbound_nodes": [wiring]})
    assert read_keras_archive(write_stored_zip(members)) == members


@pytest.mark.parametrize(
    "layer",
    [
        _layer("Lambda"),
        _layer("Lambda", "keras.src.layers.core.lambda_layer"),
        _layer("Dense", "attacker"),
        _layer("Dense", "keras.src.layers.core.dense"),
        _layer("run", "subprocess"),
        _layer("get_file", "keras.utils"),
        _layer("StringLookup"),
        _layer("TorchModuleWrapper"),
        _layer("Dense", registered_name="custom>Dense"),
        {"class_name": "Dense", "config": {}},
        {"class_name": "__lambda__", "config": {"value": "4wE="}},
        {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
        {"class_name": "__keras_tensor__", "module": "os", "config": {}},
        {"class_name": "function", "module": "builtins", "config": "exec"},
        {"deep": [[{"er": _layer("Lambda")}]]},
    ],
)
def test_code_and_custom_objects_are_refused(layer: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="not allowed"):
        read_keras_archive(write_stored_zip(_members(_layer("Dense"), layer)))


def test_a_compiled_model_with_a_custom_loss_is_refused() -> None:
    compiled = _members(compile_config={"loss": _layer("Loss", "attacker")})
    with pytest.raises(BundleError, match=r"attacker\.Loss is not allowed"):
        read_keras_archive(write_stored_zip(compiled))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.pkl": b"x"}, "must hold only"),
        ({"model.weights.h5": b"PK\x03\x04"}, "not an HDF5 file"),
        ({"config.json": b"[]"}, "Expected object, got array"),
        ({"config.json": b"{"}, "not JSON in UTF-8"),
        ({"config.json": b"\xff"}, "not JSON in UTF-8"),
        ({"config.json": b'{"a":' + b"[" * 100_000}, "nested too deeply"),
        ({"config.json": b"{}"}, "has no model"),
    ],
)
def test_invalid_content_is_refused(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_keras_archive(write_stored_zip({**_members(), **change}))


@pytest.mark.parametrize("name", sorted(_members()))
def test_a_missing_member_is_refused(name: str) -> None:
    members = _members()
    del members[name]
    with pytest.raises(BundleError, match="must hold only"):
        read_keras_archive(write_stored_zip(members))


def test_compressed_members_are_refused_without_reading_them() -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**_members(), "model.weights.h5": _WEIGHTS + bytes(10**7)}.items():
            archive.writestr(name, data)
    with pytest.raises(BundleError, match="compressed"):
        read_keras_archive(buffer.getvalue())


def test_wrong_sizes_are_refused() -> None:
    data = write_stored_zip(_members())
    entry = data.rindex(b"PK\x01\x02")
    size = (2**30).to_bytes(4, "little")
    bomb = data[: entry + 20] + size * 2 + data[entry + 28 :]
    with pytest.raises(BundleError, match="wrong size in its header"):
        read_keras_archive(bomb)
