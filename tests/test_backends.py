"""Every backend, on a network small enough to build in a second."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from featureid.embedding import EmbedSettings
from featureid.errors import BundleError, ModelError, UsageError
from featureid.models import (
    BACKENDS,
    ModelBundle,
    Preprocessing,
    open_backend,
    read_bundle,
    write_bundle,
)
from featureid.models.backends.litert import LiteRTBackend
from featureid.models.backends.tensorflow import TensorFlowBackend
from featureid.models.building import export as export_module
from featureid.models.building.export import assign_weights, export_bundle, weights_of

# Keras 3.15 converts its variables in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_PREPROCESSING = Preprocessing(8, 10, (127.0, 100.0, 90.0), (128.0, 64.0, 100.0), "stretch", 2)
_BACKENDS = [LiteRTBackend, TensorFlowBackend]


def _network(dimension: int = 5) -> Any:
    """Return a Keras model with every kind of weight, with seeded values."""
    import keras

    pixels = keras.Input((8, 10, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, 2, padding="same", use_bias=False, name="conv")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(6.0, name="relu")(x)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    embedding = keras.layers.Dense(dimension, name="embedding")(pooled)
    model = keras.Model(pixels, {"embedding": embedding, "pooled": pooled}, name="tiny")
    generator = np.random.default_rng(5)
    assign_weights(
        model,
        {
            name: generator.uniform(0.5, 1.5, array.shape).astype(np.float32)
            for name, array in weights_of(model).items()
        },
    )
    return model


def _export(model: Any, preprocessing: Preprocessing = _PREPROCESSING) -> ModelBundle:
    return export_bundle(
        model,
        name="tiny",
        architecture="tiny-1",
        preprocessing=preprocessing,
        provenance="made by a test",
        license="Apache-2.0",
    )


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    """The network as a bundle that was written and read."""
    return read_bundle(write_bundle(_export(_network())), "tiny.fidmodel")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """More images than one TensorFlow call takes, and not a multiple of it."""
    return np.random.default_rng(6).integers(0, 256, (19, 8, 10, 3), np.uint8)


def _by_hand(images: np.ndarray) -> np.ndarray:
    """Return the network's output, computed by NumPy in float64."""
    weights = {name: array.astype(np.float64) for name, array in weights_of(_network()).items()}
    mean, std = np.array(_PREPROCESSING.mean), np.array(_PREPROCESSING.std)
    x = np.pad((images - mean) / std, ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    x = np.einsum("nhwcij,ijco->nhwo", windows, weights["conv/kernel"])
    x = (x - weights["norm/moving_mean"]) / np.sqrt(weights["norm/moving_variance"] + 1e-3)
    x = np.clip(x * weights["norm/gamma"] + weights["norm/beta"], 0, 6).mean((1, 2))
    return np.asarray(x @ weights["embedding/kernel"] + weights["embedding/bias"])


@pytest.mark.parametrize("backend", _BACKENDS)
def test_vectors_match_a_float64_computation(
    backend: Any, bundle: ModelBundle, images: np.ndarray
) -> None:
    vectors = backend(bundle).embed(images)
    assert vectors.dtype == np.float32
    assert_allclose(vectors, _by_hand(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", _BACKENDS)
def test_batch_size_and_order_do_not_change_a_bit(
    backend: Any, bundle: ModelBundle, images: np.ndarray
) -> None:
    opened = backend(bundle)
    together = opened.embed(images)
    for size in (1, 2, 3, 8, 16, 1):
        parts = [opened.embed(images[i : i + size]) for i in range(0, len(images), size)]
        assert_array_equal(np.concatenate(parts), together)
    assert_array_equal(opened.embed(images[::-1]), together[::-1])
    assert opened.embed(images[:0]).shape == (0, 5)


@pytest.mark.parametrize("backend", _BACKENDS)
def test_other_outputs_can_be_requested(
    backend: Any, bundle: ModelBundle, images: np.ndarray
) -> None:
    pooled = backend(bundle, "pooled").embed(images)
    assert pooled.shape == (19, 4)
    weights = weights_of(_network())
    expected = pooled @ weights["embedding/kernel"] + weights["embedding/bias"]
    assert_allclose(backend(bundle).embed(images), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="logits"):
        backend(bundle, "logits")


@pytest.mark.parametrize("backend", BACKENDS)
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
    backend: str, batch: np.ndarray, bundle: ModelBundle
) -> None:
    with pytest.raises(ModelError, match=r"takes uint8 images of shape \(n, 8, 10, 3\), got"):
        open_backend(bundle, backend).embed(batch)


def test_litert_runs_concurrently_in_one_object_per_thread(
    bundle: ModelBundle, images: np.ndarray
) -> None:
    assert LiteRTBackend.concurrent and not TensorFlowBackend.concurrent
    expected = open_backend(bundle).embed(images)
    opened = [open_backend(bundle) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda backend: backend.embed(images), opened):
            assert_array_equal(vectors, expected)


def test_an_unknown_backend_is_a_usage_error(bundle: ModelBundle) -> None:
    with pytest.raises(UsageError, match="unknown backend 'torch'; known: litert, tensorflow"):
        open_backend(bundle, "torch")
    with pytest.raises(UsageError, match="unknown backend 'torch'"):
        EmbedSettings(backend="torch")


@pytest.mark.parametrize(
    ("backend", "module"), [("litert", "ai_edge_litert.interpreter"), ("tensorflow", "tensorflow")]
)
def test_a_missing_runtime_is_named(
    backend: str, module: str, bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=r"pip install (ai-edge-litert|tensorflow)$"):
        open_backend(bundle, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "change",
    [{"dimension": 6}, {"preprocessing": replace(_PREPROCESSING, width=8)}],
)
def test_a_network_of_another_shape_than_declared_is_refused(
    backend: str, change: dict[str, Any], bundle: ModelBundle
) -> None:
    with pytest.raises(ModelError, match=r"'tiny' cannot be used: .* declares"):
        open_backend(replace(bundle, **change), backend)


def test_networks_that_cannot_be_loaded_are_refused(bundle: ModelBundle) -> None:
    with pytest.raises(ModelError, match="cannot be loaded by LiteRT"):
        open_backend(replace(bundle, litert=bundle.litert[:200]))
    with pytest.raises(BundleError, match="Keras model is refused"):
        open_backend(replace(bundle, keras=bundle.keras[:200]), "tensorflow")


def test_exporting_twice_gives_the_same_file(bundle: ModelBundle) -> None:
    assert write_bundle(_export(_network())) == write_bundle(bundle)


def test_the_digest_covers_weights_and_preprocessing(bundle: ModelBundle) -> None:
    assert bundle.digest == (
        "sha256:6534b37d33df04a474fe8ac137cdae9fdfaec93b1358ecebc1fa45711a59e954"
    )
    model = _network()
    weights = weights_of(model)
    assign_weights(model, {**weights, "embedding/bias": weights["embedding/bias"] + 1})
    assert _export(model).digest != bundle.digest
    other = _export(_network(), replace(_PREPROCESSING, mean=(0, 0, 0)))
    assert other.digest != bundle.digest


def test_weights_of_another_network_are_refused() -> None:
    model = _network()
    weights = weights_of(model)
    wrong: list[dict[str, np.ndarray]] = [
        {**weights, "extra/kernel": np.zeros(1, np.float32)},
        {name: array for name, array in weights.items() if name != "norm/gamma"},
        {**weights, "norm/gamma": np.zeros(5, np.float32)},
    ]
    for weights in wrong:
        with pytest.raises(
            ModelError, match=r"do not fit the network; they differ in (extra|norm)"
        ):
            assign_weights(model, weights)


def test_lambda_layers_are_not_exported() -> None:
    import keras

    pixels = keras.Input((8, 10, 3))
    doubled = keras.layers.Lambda(lambda x: x * 2)(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(doubled)
    with pytest.raises(BundleError, match=r"keras\.layers\.Lambda is not allowed"):
        _export(keras.Model(pixels, {"embedding": pooled}))


def test_a_conversion_with_different_output_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    convert: Callable[[Any], bytes] = export_module._to_litert

    def convert_another(model: Any) -> bytes:
        weights = weights_of(model)
        other = _network()
        assign_weights(other, {**weights, "conv/kernel": weights["conv/kernel"] * 1.001})
        return convert(other)

    monkeypatch.setattr(export_module, "_to_litert", convert_another)
    with pytest.raises(ModelError, match=r"differs from Keras by \d\.\de-0[34] of the largest"):
        _export(_network())


def test_importing_a_backend_imports_no_runtime() -> None:
    program = (
        "import sys, featureid.models\n"
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
