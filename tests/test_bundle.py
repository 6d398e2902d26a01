"""The bundle file is read back complete or refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import BundleError
from featureid.models import ModelBundle, Preprocessing, read_bundle, write_bundle
from featureid.models import preprocessing as preprocessing_module
from featureid.models.archive import write_stored_zip
from featureid.models.bundle import load_bundle, model_digest
from featureid.stored_json import convert_json

_PREPROCESSING = Preprocessing(8, 6, (127.0, 127.5, 0.0), (128.0, 1.0, 255.0), "stretch", 2)


def _keras_archive(class_name: str = "Functional") -> bytes:
    config = {"module": "keras", "class_name": class_name, "config": {}}
    return write_stored_zip(
        {
            "metadata.json": b"{}",
            "config.json": json.dumps(config).encode(),
            "model.weights.h5": b"\x89HDF\r\n\x1a\nweights",
        }
    )


def _bundle(**changes: Any) -> ModelBundle:
    fields: dict[str, Any] = {
        "name": "tiny",
        "architecture": "tiny-1",
        "dimension": 128,
        "preprocessing": _PREPROCESSING,
        "digest": "sha256:" + "0" * 64,
        "provenance": "made by a test",
        "license": "Apache-2.0",
        "litert": b"\x1c\0\0\0TFL3 and so on",
        "keras": _keras_archive(),
    }
    return ModelBundle(**{**fields, **changes})


def _forged(change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> bytes:
    """Return a bundle altered by ``change``, with a valid checksum."""
    with zipfile.ZipFile(BytesIO(write_bundle(_bundle()))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    description = json.loads(members.pop("bundle.json"))
    change(description, members)
    return _sealed({"bundle.json": json.dumps(description).encode(), **members})


def _sealed(members: dict[str, bytes]) -> bytes:
    body = write_stored_zip(members, b"sha256:" + b"0" * 64)[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def test_a_bundle_survives_a_round_trip(tmp_path: Path) -> None:
    bundle = _bundle(name="Gesichter v2 ü")
    path = tmp_path / "a.fidmodel"
    path.write_bytes(write_bundle(bundle))
    assert load_bundle(path) == load_bundle(str(path)) == bundle


def test_the_bytes_are_deterministic_and_pinned() -> None:
    data = write_bundle(_bundle())
    assert data == write_bundle(_bundle())
    digest = hashlib.sha256(data).hexdigest()
    assert digest == "a2f11eeff0c6411d7676263c6ef80dcfce74f26b2c60aca55db8b0512b6dfbc1"


def test_any_zip_tool_reads_a_bundle() -> None:
    with zipfile.ZipFile(BytesIO(write_bundle(_bundle()))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["bundle.json", "model.tflite", "model.keras"]
        assert json.loads(archive.read("bundle.json"))["format"] == 1


def test_every_flipped_bit_is_detected() -> None:
    data = write_bundle(_bundle())
    for place in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(BundleError, match=r"model bundle m\.fidmodel: "):
                read_bundle(bytes(damaged), "m.fidmodel")


def test_every_truncation_and_addition_is_detected() -> None:
    data = write_bundle(_bundle())
    for size in range(len(data)):
        with pytest.raises(BundleError, match=r"m\.fidmodel"):
            read_bundle(data[:size], "m.fidmodel")
    for changed in (data + b"\0", b"\0" + data, data + data):
        with pytest.raises(BundleError, match=r"m\.fidmodel"):
            read_bundle(changed, "m.fidmodel")


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere\.fidmodel: cannot be read: No such file"):
        load_bundle(tmp_path / "nowhere.fidmodel")


def test_a_newer_format_is_refused() -> None:
    data = _forged(lambda description, _: description.update(format=2, faces="largest"))
    with pytest.raises(BundleError, match=r"m: its format version is 2, newer than 1.* update"):
        read_bundle(data, "m")


def test_unknown_fields_are_ignored() -> None:
    def add(description: dict[str, Any], _: dict[str, bytes]) -> None:
        description["color"] = description["preprocessing"]["color"] = "red"

    assert read_bundle(_forged(add), "m") == _bundle()


def test_a_missing_revision_is_not_taken_for_the_current_one() -> None:
    data = _forged(lambda description, _: description["preprocessing"].pop("revision"))
    with pytest.raises(BundleError, match=r"preprocessing: .*missing required field revision"):
        read_bundle(data, "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": True}, "format version"),
        ({"format": "1"}, "format version"),
        ({"format": 0}, "format version"),
        ({"name": ""}, "name must be one line"),
        ({"name": "two\nlines"}, "name must be one line"),
        ({"name": 7}, "name: Expected str, got int"),
        ({"license": None}, "license: Expected str, got null"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 128.0}, "dimension"),
        ({"dimension": True}, "dimension"),
        ({"digest": "sha256:12"}, "digest"),
        ({"digest": None}, "digest"),
        ({"members": {}}, "size or checksum differs"),
        ({"preprocessing": []}, "preprocessing: Expected object"),
        ({"preprocessing": {"height": 8}}, "preprocessing: .*missing required field width"),
    ],
)
def test_invalid_descriptions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(_forged(lambda description, _: description.update(change)), "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height"),
        ({"height": True}, "height"),
        ({"width": 1e2}, "width"),
        ({"width": 100_000}, "width"),
        ({"mean": [1, 2]}, "mean"),
        ({"mean": [1, 2, float("nan")]}, "not JSON"),
        ({"mean": [1, 2, 10**400]}, "mean"),
        ({"mean": "123"}, "mean"),
        ({"std": [1, 1, 0]}, "std"),
        ({"std": [1, 1, "1"]}, "std"),
        ({"resize": "crop"}, "resize policy 'crop'"),
        ({"revision": 1}, "pixels revision 1, but this version of featureid computes revision 2"),
    ],
)
def test_invalid_preprocessing_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(
            _forged(lambda description, _: description["preprocessing"].update(change)), "m"
        )


def _set_member(name: str, data: bytes) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Return a change that replaces a member, with a valid checksum."""

    def change(description: dict[str, Any], members: dict[str, bytes]) -> None:
        members[name] = data
        checksum = hashlib.sha256(data).hexdigest()
        description["members"][name] = {"sha256": checksum, "size": len(data)}

    return change


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.tflite", b"not a network", "not a LiteRT model"),
        ("model.keras", b"not a zip file", "Keras model is refused"),
        ("model.keras", _keras_archive("Lambda"), r"keras\.Lambda is not allowed"),
        ("model.pkl", b"\x80\x04.", "must hold only"),
    ],
)
def test_unsafe_members_are_refused(name: str, data: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(_forged(_set_member(name, data)), "m")


def test_a_swapped_member_is_refused() -> None:
    data = _forged(lambda _, members: members.update({"model.tflite": b"\x1c\0\0\0TFL3 other"}))
    with pytest.raises(BundleError, match="size or checksum differs"):
        read_bundle(data, "m")


def test_an_unsafe_bundle_is_not_written() -> None:
    with pytest.raises(BundleError, match="not allowed"):
        write_bundle(_bundle(keras=_keras_archive("Lambda")))


def test_the_preprocessing_digest_is_pinned() -> None:
    # If this digest changes, stored vectors are no longer comparable.  Do not just update it.
    canonical = (
        b'{"height":8,"mean":[127.0,127.5,0.0],"resize":"stretch","revision":2,'
        b'"std":[128.0,1.0,255.0],"width":6}'
    )
    assert _PREPROCESSING.digest == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert convert_json(_PREPROCESSING.to_json(), Preprocessing) == _PREPROCESSING


def test_integers_and_lists_make_the_same_preprocessing() -> None:
    same = Preprocessing(8, 6, [127, 127.5, 0], [128, 1, 255], "stretch", 2)  # type: ignore[arg-type]
    assert same == _PREPROCESSING and same.digest == _PREPROCESSING.digest


def test_every_field_and_the_pixels_revision_change_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = [
        replace(_PREPROCESSING, height=9),
        replace(_PREPROCESSING, width=9),
        replace(_PREPROCESSING, mean=(0, 0, 0)),
        replace(_PREPROCESSING, std=(1, 1, 1)),
    ]
    monkeypatch.setattr(preprocessing_module, "PIXELS_REVISION", 3)
    changed.append(replace(_PREPROCESSING, revision=3))
    assert len({p.digest for p in (*changed, _PREPROCESSING)}) == 6


def test_scaling_is_elementwise_float32() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 6, 3), np.uint8)
    scaled = _PREPROCESSING.scale(pixels)
    assert scaled.dtype == np.float32
    expected = (pixels - np.array(_PREPROCESSING.mean)) / np.array(_PREPROCESSING.std)
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


def test_the_model_digest_is_pinned_and_covers_everything() -> None:
    weights = {"b/bias": np.arange(3, dtype="f4"), "a/kernel": np.ones((2, 3), np.float32)}
    digest = model_digest("tiny-1", weights, _PREPROCESSING)
    header = (
        '{"architecture":"tiny-1","preprocessing":"' + _PREPROCESSING.digest + '",'
        '"weights":[["a/kernel",[2,3]],["b/bias",[3]]]}\n'
    )
    content = header.encode() + np.array([1, 1, 1, 1, 1, 1, 0, 1, 2], "<f4").tobytes()
    assert digest == "sha256:" + hashlib.sha256(content).hexdigest()

    big_endian = {name: array.astype(">f4") for name, array in weights.items()}
    assert model_digest("tiny-1", dict(reversed(big_endian.items())), _PREPROCESSING) == digest
    others = {
        model_digest("tiny-2", weights, _PREPROCESSING),
        model_digest("tiny-1", weights, replace(_PREPROCESSING, height=9)),
        model_digest("tiny-1", {**weights, "b/bias": weights["b/bias"] + 1}, _PREPROCESSING),
        model_digest("tiny-1", {**weights, "a/kernel": np.ones((3, 2), "f4")}, _PREPROCESSING),
        model_digest("tiny-1", {"c": weights["b/bias"], "a": weights["b/bias"]}, _PREPROCESSING),
    }
    assert len(others | {digest}) == 6


def test_only_float32_weights_have_a_digest() -> None:
    with pytest.raises(BundleError, match="weight a is float64"):
        model_digest("tiny-1", {"a": np.zeros(3)}, _PREPROCESSING)  # type: ignore[dict-item]
