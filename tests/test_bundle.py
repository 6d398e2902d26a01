"""The bundle file is read back complete or refused."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import BundleError
from featureid.images.resize import STRETCH, ResizePolicy
from featureid.models import ModelBundle, Preprocessing, read_bundle, write_bundle
from featureid.models import preprocessing as preprocessing_module
from featureid.models.archive import write_stored_zip
from featureid.models.bundle import (
    Network,
    NetworkInput,
    load_bundle,
    model_digest,
    network_digest,
    with_own_digest,
)
from featureid.models.features import Reduction
from featureid.stored_json import convert_json
from tests.tiny_networks import PREPROCESSING as TINY
from tests.tiny_networks import onnx_bundle, tflite_bundle

_PREPROCESSING = Preprocessing(8, 6, (127.0, 127.5, 0.0), (128.0, 1.0, 255.0), STRETCH, 2)
_INPUT = NetworkInput("pixels", "nchw", "float32")
_REDUCTION = Reduction(np.arange(12, dtype=np.float32).reshape(4, 3))


def _bundle(**changes: Any) -> ModelBundle:
    fields: dict[str, Any] = {
        "name": "tiny",
        "architecture": "tiny-1",
        "digest": "sha256:" + "0" * 64,
        "native_dimension": 4,
        "dimension": 3,
        "preprocessing": _PREPROCESSING,
        "network": Network("model.onnx", b"a network", _INPUT, "features"),
        "reduction": _REDUCTION,
        "provenance": "made by a test",
        "license": "Apache-2.0",
        "statistics": {"parameters": 12},
    }
    return with_own_digest(ModelBundle(**{**fields, **changes}))


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


@pytest.mark.parametrize(
    "bundle",
    [
        _bundle(name="Gesichter v2 ü"),
        _bundle(reduction=None, dimension=4, statistics={}),
        _bundle(reduction=Reduction(_REDUCTION.matrix, np.array([1, 2, 3], np.float32))),
        _bundle(reduction=replace(_REDUCTION, unit=True)),
        onnx_bundle("nhwc", "uint8", 2, "cls"),
        onnx_bundle(preprocessing=replace(TINY, resize=ResizePolicy("pad", "bilinear"))),
        tflite_bundle(preprocessing=replace(TINY, channels="bgr")),
    ],
)
def test_a_bundle_survives_a_round_trip(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "a.fidmodel"
    path.write_bytes(write_bundle(bundle))
    assert load_bundle(path) == load_bundle(str(path)) == bundle
    assert write_bundle(load_bundle(path)) == path.read_bytes()


def test_the_bytes_are_deterministic_and_pinned() -> None:
    data = write_bundle(_bundle())
    assert data == write_bundle(_bundle())
    digest = hashlib.sha256(data).hexdigest()
    assert digest == "60da8f2cd7e7790c37059644b7eaf7d83790c0969b7ee03c9a55c3d456fb69dd"


def test_any_zip_tool_reads_a_bundle() -> None:
    with zipfile.ZipFile(BytesIO(write_bundle(_bundle()))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["bundle.json", "model.onnx", "reduction.npy"]
        assert json.loads(archive.read("bundle.json"))["format"] == 2
        matrix = np.load(BytesIO(archive.read("reduction.npy")))
    np.testing.assert_array_equal(matrix, _REDUCTION.matrix)


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


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fidmodel")
    with pytest.raises(BundleError, match=r"pipe\.fidmodel: cannot be read: it is a pipe"):
        load_bundle(tmp_path / "pipe.fidmodel")


def test_a_newer_format_is_refused() -> None:
    data = _forged(lambda description, _: description.update(format=3, faces="largest"))
    with pytest.raises(BundleError, match=r"m: its format version is 3, newer than 2.* update"):
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
        ({"format": "2"}, "format version"),
        ({"format": 1}, "format version is 1, .* build the model again"),
        ({"format": 0}, "format version"),
        ({"name": ""}, "name must be one line"),
        ({"name": "two\nlines"}, "name must be one line"),
        ({"name": 7}, "name: Expected str, got int"),
        ({"license": None}, "license: Expected str, got null"),
        ({"dimension": 0}, "dimension"),
        ({"dimension": 128.0}, "dimension"),
        ({"dimension": True}, "dimension"),
        ({"dimension": 2}, r"reduction is not .* of shape \(4, 2\) or"),
        ({"native_dimension": 2}, r"reduction is not .* of shape \(2, 3\) or"),
        ({"native_dimension": 65537}, "native_dimension: Expected int <= 65536"),
        ({"digest": "sha256:12"}, "digest"),
        ({"digest": None}, "digest"),
        ({"members": {}}, "size or checksum differs"),
        ({"input": {"name": "x", "layout": "hwc", "dtype": "uint8"}}, r"input\.layout: Invalid"),
        ({"input": {"name": "x", "layout": "nchw", "dtype": "int8"}}, r"input\.dtype: Invalid"),
        ({"input": {**asdict(_INPUT), "batch": 0}}, r"input\.batch: Expected int >= 1"),
        ({"input": {**asdict(_INPUT), "batch": 4096}}, "batch must be from 1 to 1024"),
        ({"input": {**asdict(_INPUT), "dtype": "uint8"}}, "uint8 scales by itself"),
        ({"output": None}, "output: Expected str"),
        ({"pooling": "max"}, "pooling: Invalid"),
        ({"statistics": {"parameters": -1}}, r"statistics.*>= 0"),
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
        ({"resize": "stretch"}, "resize: Expected object"),
        ({"resize": {"method": "crop", "interpolation": "bicubic"}}, "method: Invalid .*'crop'"),
        ({"resize": {"method": "pad"}}, "missing required field interpolation"),
        ({"channels": "rgba"}, "channels: Invalid .*'rgba'"),
        ({"revision": 1}, "pixels revision 1, but this version of featureid computes revision 2"),
    ],
)
def test_invalid_preprocessing_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(
            _forged(lambda description, _: description["preprocessing"].update(change)), "m"
        )


def _set_member(
    name: str, data: bytes | None
) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    """Return a change that replaces or removes a member, with a valid checksum."""

    def change(description: dict[str, Any], members: dict[str, bytes]) -> None:
        if data is None:
            del members[name], description["members"][name]
            return
        members[name] = data
        checksum = hashlib.sha256(data).hexdigest()
        description["members"][name] = {"sha256": checksum, "size": len(data)}

    return change


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("model.onnx", b"", "model.onnx is empty"),
        ("model.onnx", None, r"one network, model\.onnx or model\.tflite, found \[\]"),
        ("model.tflite", b"\x1c\0\0\0TFL3", r"found \['model\.onnx', 'model\.tflite'\]"),
        ("model.pkl", b"\x80\x04.", r"found \['model\.onnx', 'model\.pkl'\]"),
        ("reduction.npy", None, "dimension 3 does not follow from 4 native dimensions and none"),
        ("reduction.npy", b"not an array", r"not a complete \.npy file"),
    ],
)
def test_members_that_do_not_fit_are_refused(name: str, data: bytes | None, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read_bundle(_forged(_set_member(name, data)), "m")


def test_a_repeated_member_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        buffer = BytesIO(write_bundle(_bundle()))
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("model.onnx", b"another")
            archive.comment = b"sha256:" + b"0" * 64
    body = buffer.getvalue()[:-64]
    with pytest.raises(BundleError, match="repeated"):
        read_bundle(body + hashlib.sha256(body).hexdigest().encode(), "m")


def test_only_a_litert_network_is_taken_for_one() -> None:
    with pytest.raises(BundleError, match="not a LiteRT model"):
        Network("model.tflite", b"a network", _INPUT, "features")


def test_a_reduction_must_fit_the_dimensions() -> None:
    with pytest.raises(BundleError, match=r"3 does not follow from 5 .* of shape \(4, 3\)"):
        _bundle(native_dimension=5)


def test_a_swapped_member_is_refused() -> None:
    data = _forged(lambda _, members: members.update({"model.onnx": b"b network"}))
    with pytest.raises(BundleError, match="size or checksum differs"):
        read_bundle(data, "m")


def test_the_preprocessing_digest_is_pinned() -> None:
    # If this digest changes, stored vectors are no longer comparable.  Do not just update it.
    canonical = (
        b'{"channels":"rgb","height":8,"mean":[127.0,127.5,0.0],'
        b'"resize":{"interpolation":"bicubic","method":"stretch"},"revision":2,'
        b'"std":[128.0,1.0,255.0],"width":6}'
    )
    assert _PREPROCESSING.digest == "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert convert_json(_PREPROCESSING.to_json(), Preprocessing) == _PREPROCESSING


def test_integers_and_lists_make_the_same_preprocessing() -> None:
    same = Preprocessing(8, 6, [127, 127.5, 0], [128, 1, 255], STRETCH, 2)  # type: ignore[arg-type]
    assert same == _PREPROCESSING and same.digest == _PREPROCESSING.digest


def test_every_field_and_the_pixels_revision_change_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pad = ResizePolicy("pad", "bicubic")
    changed = [
        replace(_PREPROCESSING, height=9),
        replace(_PREPROCESSING, width=9),
        replace(_PREPROCESSING, mean=(0, 0, 0)),
        replace(_PREPROCESSING, std=(1, 1, 1)),
        replace(_PREPROCESSING, channels="bgr"),
        replace(_PREPROCESSING, resize=pad),
        replace(_PREPROCESSING, resize=replace(pad, fill=(0, 0, 1))),
        replace(_PREPROCESSING, resize=replace(pad, interpolation="bilinear")),
        replace(_PREPROCESSING, resize=ResizePolicy("shortest", "bicubic")),
        replace(_PREPROCESSING, resize=ResizePolicy("shortest", "bicubic", 0.875)),
    ]
    monkeypatch.setattr(preprocessing_module, "PIXELS_REVISION", 3)
    changed.append(replace(_PREPROCESSING, revision=3))
    assert len({p.digest for p in (*changed, _PREPROCESSING)}) == 12


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_pixels_are_arranged_and_scaled(layout: Any, channels: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 6, 3), np.uint8)
    preprocessing = replace(_PREPROCESSING, channels=channels)
    expected = (pixels - np.array(_PREPROCESSING.mean)) / np.array(_PREPROCESSING.std)
    arranged = pixels
    if channels == "bgr":
        expected, arranged = expected[..., ::-1], arranged[..., ::-1]
    if layout == "nchw":
        expected, arranged = expected.transpose(0, 3, 1, 2), arranged.transpose(0, 3, 1, 2)
    scaled = preprocessing.scale(pixels, layout)
    assert scaled.dtype == np.float32 and scaled.flags.c_contiguous
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    found = preprocessing.arrange(pixels, layout)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, arranged)


def test_both_layouts_have_the_same_numbers() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (3, 8, 6, 3), np.uint8)
    rows, planes = (_PREPROCESSING.scale(pixels, layout) for layout in ("nhwc", "nchw"))
    np.testing.assert_array_equal(rows.transpose(0, 3, 1, 2), planes)


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


def test_the_digest_of_a_network_is_pinned_and_covers_everything() -> None:
    network, reduction = _bundle().network, _REDUCTION
    digest = network_digest(network, "none", reduction, _PREPROCESSING)
    assert digest == ("sha256:3058feb99557eb91e9ed46b4ea0dcf36ece0744ee7e18aa549038ae9d2f08266")
    other = Reduction(reduction.matrix + 1)
    others = {
        network_digest(replace(network, data=b"b network"), "none", reduction, _PREPROCESSING),
        network_digest(replace(network, output="logits"), "none", reduction, _PREPROCESSING),
        network_digest(network, "mean", reduction, _PREPROCESSING),
        network_digest(network, "none", None, _PREPROCESSING),
        network_digest(network, "none", other, _PREPROCESSING),
        network_digest(network, "none", reduction, replace(_PREPROCESSING, height=9)),
        *(
            network_digest(
                replace(network, input=replace(_INPUT, **{field: value})),  # type: ignore[arg-type]
                "none",
                reduction,
                _PREPROCESSING,
            )
            for field, value in (
                ("name", "x"),
                ("layout", "nhwc"),
                ("dtype", "uint8"),
                ("batch", 1),
            )
        ),
    }
    assert len(others | {digest}) == 11
