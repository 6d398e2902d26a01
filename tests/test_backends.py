"""Every backend, on a network of a few hundred weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from featureid.embedding import EmbedSettings, describe_model
from featureid.errors import ModelError, UsageError
from featureid.models import ModelBundle, open_backend, open_backends, read_bundle, write_bundle
from featureid.models.bundle import NetworkInput
from tests.tiny_networks import (
    PREPROCESSING,
    features_by_hand,
    onnx_bundle,
    onnx_network,
    tflite_bundle,
    vectors_by_hand,
    weights,
)

_BUNDLES: dict[str, Callable[[], ModelBundle]] = {
    "planes": onnx_bundle,
    "rows": lambda: onnx_bundle("nhwc"),
    "uint8": lambda: onnx_bundle("nhwc", "uint8"),
    "uint8 planes": lambda: onnx_bundle("nchw", "uint8"),
    "batch of 1": lambda: onnx_bundle(batch=1),
    "batch of 4": lambda: onnx_bundle(batch=4),
    "mean of tokens": lambda: onnx_bundle(pooling="mean"),
    "litert": tflite_bundle,
}


@pytest.fixture(scope="module", params=_BUNDLES)
def bundle(request: pytest.FixtureRequest) -> ModelBundle:
    """A bundle that was written and read."""
    return read_bundle(write_bundle(_BUNDLES[request.param]()), "tiny.fidmodel")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """More images than one call takes, and not a multiple of it."""
    return np.random.default_rng(6).integers(0, 256, (19, 8, 10, 3), np.uint8)


def test_vectors_match_a_float64_computation(bundle: ModelBundle, images: np.ndarray) -> None:
    vectors = open_backend(bundle).embed(images)
    assert vectors.dtype == np.float32
    assert_allclose(vectors, vectors_by_hand(images), rtol=1e-5, atol=2e-6)


def test_batch_size_and_order_do_not_change_a_bit(bundle: ModelBundle, images: np.ndarray) -> None:
    opened = open_backend(bundle)
    together = opened.embed(images)
    for size in (1, 2, 3, 8, 16, 1):
        parts = [opened.embed(images[i : i + size]) for i in range(0, len(images), size)]
        assert_array_equal(np.concatenate(parts), together)
    assert_array_equal(opened.embed(images[::-1]), together[::-1])
    assert opened.embed(images[:0]).shape == (0, 5)


def test_pooled_features_are_those_before_the_reduction(
    bundle: ModelBundle, images: np.ndarray
) -> None:
    pooled = open_backend(bundle, output="pooled").embed(images)
    assert pooled.shape == (19, 4)
    assert_allclose(pooled, features_by_hand(images).mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_without_a_reduction_the_features_are_the_vectors(images: np.ndarray) -> None:
    plain = onnx_bundle(reduction=None, dimension=4)
    pooled = open_backend(onnx_bundle(), output="pooled").embed(images)
    assert_array_equal(open_backend(plain).embed(images), pooled)


def test_the_first_token_can_be_the_vector(images: np.ndarray) -> None:
    found = open_backend(onnx_bundle(pooling="cls"), output="pooled").embed(images)
    assert_allclose(found, features_by_hand(images)[:, 0, 0], rtol=1e-5, atol=1e-6)


def test_channels_can_be_reversed(images: np.ndarray) -> None:
    reversed_kernel = onnx_network(kernel=weights()["kernel"][:, ::-1].copy())
    plain = onnx_bundle()
    bgr = replace(
        plain,
        network=replace(plain.network, data=reversed_kernel),
        preprocessing=replace(PREPROCESSING, channels="bgr"),
    )
    vectors = open_backend(bgr).embed(images)
    assert_allclose(vectors, vectors_by_hand(images), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 10, 8, 3), np.uint8),
        np.zeros((8, 10, 3), np.uint8),
        np.zeros((1, 8, 10, 4), np.uint8),
        np.zeros((1, 8, 10, 3), np.float32),
    ],
)
def test_batches_of_another_shape_or_dtype_are_refused(
    batch: np.ndarray, bundle: ModelBundle
) -> None:
    with pytest.raises(ModelError, match=r"takes uint8 images of shape \(n, 8, 10, 3\), got"):
        open_backend(bundle).embed(batch)


def test_threads_do_not_change_a_bit(bundle: ModelBundle, images: np.ndarray) -> None:
    expected = open_backend(bundle).embed(images)
    opened = open_backends(bundle, None, 4)
    assert len(opened) == 4
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for vectors in pool.map(lambda backend: backend.embed(images), opened):
                assert_array_equal(vectors, expected)


def test_threads_share_the_weights_of_an_onnx_network() -> None:
    assert len({*map(id, open_backends(onnx_bundle(), "onnx", 4))}) == 1
    assert len({*map(id, open_backends(tflite_bundle(), "litert", 4))}) == 4


# Python 3.12 warns of every fork beside threads, such as those of OpenBLAS.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_model_survives_a_fork(bundle: ModelBundle, images: np.ndarray) -> None:
    opened = open_backend(bundle)
    expected = opened.embed(images)
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(opened.embed(images), expected) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_an_unknown_backend_is_a_usage_error(bundle: ModelBundle) -> None:
    with pytest.raises(UsageError, match="unknown backend 'torch'; known: onnx, onnx-cuda, litert"):
        open_backend(bundle, "torch")
    with pytest.raises(UsageError, match="unknown backend 'torch'"):
        EmbedSettings(backend="torch")


def test_a_backend_that_cannot_run_the_network_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match=r"litert runs model\.tflite, but model 'tiny' has model"):
        open_backend(onnx_bundle(), "litert")
    with pytest.raises(UsageError, match=r"has model\.tflite; choose litert$"):
        open_backends(tflite_bundle(), "onnx", 2)
    path = tmp_path / "tiny.fidmodel"
    path.write_bytes(write_bundle(onnx_bundle()))
    with pytest.raises(UsageError, match=r"choose onnx or onnx-cuda$"):
        describe_model(str(path), EmbedSettings(backend="litert"))
    assert describe_model(str(path), EmbedSettings())[1].backend == "onnx"


@pytest.mark.parametrize(
    ("bundle", "module", "message"),
    [
        (onnx_bundle(), "onnxruntime", "models cannot run: .* pip install onnxruntime$"),
        (tflite_bundle(), "ai_edge_litert.interpreter", r"pip install 'featureid\[litert\]'$"),
    ],
    ids=["onnx", "litert"],
)
def test_a_missing_runtime_is_named(
    bundle: ModelBundle, module: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=message):
        open_backend(bundle)


def test_without_a_gpu_the_cpu_does_not_step_in() -> None:
    with pytest.raises(ModelError, match=r"the backend onnx-cuda (needs onnxruntime-gpu|found no)"):
        open_backend(onnx_bundle(), "onnx-cuda")


_SOURCE = NetworkInput("pixels", "nchw", "float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocessing": replace(PREPROCESSING, width=8)}, r"\(None, 3, 8, 10\), .* 3, 8, 8\)"),
        ({"native_dimension": 6, "dimension": 6, "reduction": None}, "of features is 4, .* 6"),
        ({"input": replace(_SOURCE, name="x")}, r"inputs is \['pixels'\], .* \['x'\]"),
        ({"input": replace(_SOURCE, layout="nhwc")}, r"input's shape is \(None, 3, 8, 10\)"),
        ({"output": "logits"}, r"outputs is \['features'\], .* logits"),
        ({"pooling": "mean"}, "number of features is 1, "),
    ],
)
def test_a_network_that_differs_from_its_description_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    plain = onnx_bundle()
    network = {name: changes.pop(name) for name in ("input", "output") if name in changes}
    bundle = replace(plain, network=replace(plain.network, **network), **changes)
    with pytest.raises(ModelError, match=rf"'tiny' cannot be used: its .*{message}"):
        open_backend(bundle)


def test_a_network_of_any_batch_can_be_given_a_fixed_one(images: np.ndarray) -> None:
    plain = onnx_bundle()
    fixed = replace(plain, network=replace(plain.network, input=replace(_SOURCE, batch=4)))
    assert_allclose(
        open_backend(fixed).embed(images), vectors_by_hand(images), rtol=1e-5, atol=2e-6
    )


def test_a_network_of_another_type_or_batch_is_refused() -> None:
    fixed, uint8 = onnx_bundle(batch=1), onnx_bundle(dtype="uint8")
    source = replace(uint8.network.input, dtype="float32")
    with pytest.raises(ModelError, match=r"input's type is tensor\(uint8\), .* tensor\(float\)"):
        open_backend(replace(uint8, network=replace(uint8.network, input=source)))
    with pytest.raises(ModelError, match=r"input's shape is \(1, 3, 8, 10\)"):
        open_backend(replace(fixed, network=replace(fixed.network, input=_SOURCE)))


@pytest.mark.parametrize(
    "change",
    [
        {"input": NetworkInput("x", "nhwc", "float32", 1)},
        {"input": NetworkInput("pixels", "nhwc", "uint8", 1)},
        {"input": NetworkInput("pixels", "nchw", "float32", 1)},
        {"input": NetworkInput("pixels", "nhwc", "float32")},
        {"output": "logits"},
    ],
)
def test_a_litert_network_that_differs_from_its_description_is_refused(
    change: dict[str, Any],
) -> None:
    plain = tflite_bundle()
    scaled = replace(PREPROCESSING, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ModelError, match="'tiny' cannot be used: its "):
        open_backend(replace(plain, preprocessing=scaled, network=replace(plain.network, **change)))


def test_networks_that_cannot_be_loaded_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for plain in (onnx_bundle(), tflite_bundle()):
        for data in (plain.network.data[:200], plain.network.data[:8] + b"\xff" * 99):
            with pytest.raises(ModelError, match=r"cannot be loaded by (ONNX Runtime|LiteRT): "):
                open_backend(replace(plain, network=replace(plain.network, data=data)))
    assert not capfd.readouterr().err


def test_importing_the_backends_imports_no_runtime() -> None:
    program = (
        "import sys, featureid.models\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'onnx', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
