"""The ``face`` model compared with dlib itself, and the reader of its weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import ModelError
from featureid.models import ModelBundle, known_models, open_backend, resolve_model
from featureid.models.building.dlib_network import read_dlib_network
from featureid.models.building.face_resnet import folded_weights
from tests.face_images import astronaut, head

# The identity of the model, on every machine and for years: stored vectors depend on it.
DIGEST = "sha256:92bf5d61653b308db78c8710d5e55fb41920ddec072f80f6c116f5f4296f473b"
WEIGHTS = "models/dlib_face_recognition_resnet_model_v1.dat"


@pytest.fixture(scope="module")
def weights_file() -> Path:
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / WEIGHTS


@pytest.fixture(scope="module")
def face_model() -> ModelBundle:
    return resolve_model("face")


def test_the_face_model_is_the_one_that_was_published(face_model: ModelBundle) -> None:
    assert face_model.digest == DIGEST
    assert (face_model.name, face_model.dimension, face_model.license) == ("face", 128, "CC0-1.0")
    assert face_model.preprocessing.face
    assert set(face_model.preprocessing.face.templates) == {"dlib"}
    assert {model.name: model.digest for model in known_models()}["face"] == DIGEST


def test_the_face_model_gives_the_numbers_of_dlib(
    face_model: ModelBundle, weights_file: Path
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (150, 150, 3), np.uint8)
    picture = np.array(astronaut().resize((150, 150)))
    chips = np.stack([np.array(head(150)), picture, noise, np.zeros_like(noise)])
    network = dlib.face_recognition_model_v1(str(weights_file))
    wanted = np.array([network.compute_face_descriptor(chip) for chip in chips])
    found = open_backend(face_model).embed(chips)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_all_weights_are_read(weights_file: Path) -> None:
    layers = read_dlib_network(weights_file.read_bytes(), "weights")
    assert [kind for kind, _ in layers] == ["con", "affine"] * 29 + ["fc"]
    assert sum(values.size for kind, values in layers if kind != "affine") == 5_607_488
    weights, dense = folded_weights(layers)
    assert weights["stem/kernel"].shape == (32, 3, 7, 7)
    assert dense.shape == (256, 128)
    assert len(weights) == 2 * 29
    assert all(array.dtype == np.float32 for array in weights.values())


def test_weights_of_another_network_are_refused(weights_file: Path) -> None:
    layers = read_dlib_network(weights_file.read_bytes(), "weights")
    with pytest.raises(ModelError, match="its 57 layers differ"):
        folded_weights(layers[2:])
    with pytest.raises(ModelError, match="layer stem has another size"):
        folded_weights([layers[2], *layers[1:]])
    with pytest.raises(ModelError, match="dense layer"):
        folded_weights([*layers[:-1], ("fc", layers[-1][1][1:])])


@given(st.integers(0, 22_466_065))
def test_a_truncated_file_is_refused_or_has_fewer_layers(length: int) -> None:
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec and spec.submodule_search_locations
    data = (Path(spec.submodule_search_locations[0]) / WEIGHTS).read_bytes()
    try:
        layers = read_dlib_network(data[:length], "cut.dat")
    except ModelError as error:
        assert "cut.dat: " in str(error)
    else:
        assert len(layers) <= 59


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    marked = b"\x01\x05con_4" + data
    for hostile in (data, marked, b"\x01\x04fc_2" + data):
        try:
            layers = read_dlib_network(hostile, "x.dat")
        except ModelError as error:
            assert "x.dat: " in str(error)
        else:
            assert all(values.nbytes <= len(hostile) for _, values in layers)
