"""What the child process says of networks; here without the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from featureid.errors import ModelError
from featureid.models.building.textures import textured_images
from featureid.models.building.trial import (
    BUNDLE,
    IMAGES,
    NETWORK,
    Probe,
    Probed,
    Trial,
    Tried,
    check_tried,
)
from featureid.models.building.trial_child import work
from featureid.models.bundle import NetworkInput, with_own_digest, write_bundle
from tests.foreign_networks import SIDE, TOKENS, convolutional, transformer
from tests.odd_networks import MEANS, branching, external, node, onnx_of
from tests.tiny_networks import TFLITE, onnx_bundle, onnx_network

GOOD = Tried(8, True, True, True, True, 1.0, 1.0, 0.1, 90.0, None)


def probed(folder: Path, data: bytes, file: str = "model.onnx", **asked: Any) -> Probed:
    """Return what a network takes and returns."""
    (folder / NETWORK).write_bytes(data)
    task = Probe(**{"file": file, "output": None, "layout": None, "size": None, **asked})
    found: Probed = work(folder, task)
    return found


def tried(folder: Path, network: bytes) -> Tried:
    """Return how a model with this network does on made-up images."""
    bundle = onnx_bundle(reduction=None, dimension=4)
    bundle = with_own_digest(replace(bundle, network=replace(bundle.network, data=network)))
    (folder / BUNDLE).write_bytes(write_bundle(bundle))
    size = (bundle.preprocessing.height, bundle.preprocessing.width)
    np.save(folder / IMAGES, textured_images(8, *size))
    found: Tried = work(folder, Trial())
    return found


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "not ONNX": (b"not a network", "it is not an ONNX file"),
    "no input": (onnx_of([node("Identity", "c", "y")], constants={"c": np.array([1], np.float32)},
                         inputs={}), "it has 0 inputs (none); a model of images has one"),
    "two inputs": (onnx_of([node("Concat", "x", "z", "y", axis=1)],
                           inputs={"x": ["n", 3, 8, 8], "z": ["n", 3, 8, 8]}),
                   "it has 2 inputs (x (float32 n, 3, 8, 8); z (float32 n, 3, 8, 8)); a model"),
    "no image": (onnx_of([node("Identity", "x", "y")], inputs={"x": ["n", 77]}),
                 "its input x (float32 n, 77) is not a batch of images"),
    "gray": (onnx_of([node("Identity", "x", "y")], inputs={"x": ["n", 1, 8, 8]}),
             "its input has the shape (?, 1, 8, 8), which is not that of RGB images"),
    "no rows": (onnx_of([node("ReduceMean", "x", "y", keepdims=0)]),
                "its output y has the shape () for 1 images; it must have a row per image"),
    "external data": (external(), "its weight 'w' is in another file"),
    "a runtime's operator": (onnx_of([node("FusedConv", "x", "y", domain="com.microsoft")],
                                     domain="com.microsoft"),
                             "its operator FusedConv is of com.microsoft, not of the ONNX"),
    "an unknown operator": (onnx_of([node("Frobnicate", "x", "y")]),
                            "its operator Frobnicate is not in the ONNX standard"),
    "a branch": (branching(), "its operator If holds a graph of its own"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_network_that_is_no_model_of_images_is_refused(kind: str, tmp_path: Path) -> None:
    data, expected = UNUSABLE[kind]
    with pytest.raises(ModelError) as refused:
        probed(tmp_path, data)
    assert expected in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("network", "asked", "source", "shape"),
    [
        (convolutional(8), {}, NetworkInput("pixels", "nchw", "float32", None), (8, 1, 1)),
        (
            convolutional(8, "nhwc", "uint8", batch=4),
            {},
            NetworkInput("pixels", "nhwc", "uint8", 4),
            (8, 1, 1),
        ),
        (
            convolutional(8, size="side"),
            {"size": (SIDE, SIDE)},
            NetworkInput("pixels", "nchw", "float32", None),
            (8, 1, 1),
        ),
        (
            transformer(8, batch=1),
            {"layout": "nchw"},
            NetworkInput("pixels", "nchw", "float32", 1),
            (TOKENS, 8),
        ),
    ],
    ids=["any batch", "uint8 rows", "any size", "batch of 1"],
)
def test_what_a_network_takes_and_returns_is_found_out(
    network: bytes,
    asked: dict[str, Any],
    source: NetworkInput,
    shape: tuple[int, ...],
    tmp_path: Path,
) -> None:
    found = probed(tmp_path, network, **asked)
    assert (found.input, found.size, found.shape) == (source, (SIDE, SIDE), shape)
    assert found.parameters


def test_what_a_litert_network_takes_and_returns_is_found_out(tmp_path: Path) -> None:
    found = probed(tmp_path, TFLITE, "model.tflite")
    assert found.input.layout == "nhwc" and found.size == (8, 10) and found.parameters is None
    for damaged in (b"", b"not a network", TFLITE[:200], TFLITE[:-200]):
        with pytest.raises(ModelError, match="it cannot be loaded by LiteRT: "):
            probed(tmp_path, damaged, "model.tflite")


@pytest.mark.parametrize(
    ("network", "asked", "expected"),
    [
        (convolutional(8, maps=True), {}, "it has 2 outputs; name the one with the features with"),
        (convolutional(8, maps=True), {"output": "logits"}, "no output 'logits' (`embedding`); it"),
        (convolutional(8, size="side"), {}, "for images of any size; give one with `size`"),
        (transformer(8), {"size": (64, 64)}, "does not fit images of 64 x 64 (`size`)"),
        (transformer(8), {"layout": "nhwc"}, "not that of images in the layout nhwc"),
        (onnx_of([MEANS], "m", inputs={"x": ["n", 3, 9999, 8]}), {}, "is 9999 x 8; sides may be"),
        (
            onnx_of([node("ReduceMean", "x", "y", axes=[1, 2])], inputs={"x": [1, 3, 3, 3]}),
            {},
            "accepts images in both layouts; name the right one with `layout`",
        ),
    ],
)
def test_what_cannot_be_found_out_is_asked_for(
    network: bytes, asked: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as refused:
        probed(tmp_path, network, **asked)
    assert expected in str(refused.value)


def test_a_trial_tells_good_vectors_from_others(tmp_path: Path) -> None:
    found = tried(tmp_path, onnx_network())
    assert found.finite and found.distinct and found.repeatable and found.independent
    assert found.images == 8 and found.peak_mb > 10
    kernel = np.zeros((4, 3, 3, 3), np.float32)
    assert not tried(tmp_path, onnx_network(kernel=kernel + np.nan)).finite
    assert not tried(tmp_path, onnx_network(kernel=kernel)).distinct


def test_vectors_that_could_not_be_used_are_refused() -> None:
    check_tried(GOOD)
    check_tried(
        msgspec.structs.replace(GOOD, independent=False)
    )  # its images are then run one by one
    for name, expected in (
        ("finite", "infinite or undefined numbers, or are zero"),
        ("distinct", "the same for all images"),
        ("repeatable", "change from run to run"),
    ):
        with pytest.raises(ModelError, match=expected):
            check_tried(msgspec.structs.replace(GOOD, **{name: False}))
