"""Networks of 8-bit integers: the same bits as integer arithmetic, and close to float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import skimage.data
from onnx import numpy_helper

from featureid.embedding import normalize
from featureid.models import known_models, open_backend, resolve_model
from featureid.models.building.build import read_ranges
from featureid.models.building.quantized_graph import QuantizedGraph
from tests.integer_reference import features_by_integers

# The identity of the models, on every machine and for years: stored vectors depend on it.
_DIGESTS = {
    "image": "sha256:5e61b35b25d318974b052034940c6b7c82b95b090411cc8a459b4a44002b0062",
    "face": "sha256:4321ee9966d96a0de41e26f548b1d0390f9acfad260e13c8992468f6637c70a1",
}
_RANGES = {"a_relu": (0.0, 3.0), "b": (-2.0, 3.0), "c": (-2.0, 2.5), "sum": (-4.0, 4.0)}


def _photos(side: int) -> np.ndarray:
    """Return two photos and, last, an image of the extremes, (3, side, side, 3) uint8."""
    photos = [skimage.data.astronaut()[:side, 120 : 120 + side], skimage.data.coffee()]
    extreme = np.random.default_rng(3).integers(0, 2, (side, side, 3)) * 255
    return np.stack([*(photo[:side, :side] for photo in photos), extreme]).astype(np.uint8)


@pytest.mark.parametrize("name", _DIGESTS)
def test_a_model_is_the_one_that_was_published(name: str) -> None:
    model, exact = resolve_model(f"{name}-int8"), resolve_model(name)
    assert (model.name, model.digest) == (f"{name}-int8", _DIGESTS[name])
    assert {known.name: known.digest for known in known_models()}[model.name] == model.digest
    assert model.preprocessing.face == exact.preprocessing.face
    assert (model.license, model.statistics) == (exact.license, exact.statistics)


@pytest.mark.parametrize("name", ["image-int8", "face-int8"])
def test_a_network_computes_what_integer_arithmetic_says(name: str) -> None:
    """So neither saturation nor rounding depends on the processor, for one without VNNI too."""
    model = resolve_model(name)
    photos = _photos(model.preprocessing.height)[1:]
    expected = features_by_integers(model.network.data, photos)
    np.testing.assert_array_equal(open_backend(model, output="pooled").embed(photos), expected)


@pytest.mark.parametrize("name", ["image-int8", "face-int8"])
def test_the_reduction_is_exact_in_float64(name: str) -> None:
    """Whatever the order of its sums: they are integers below 2**53, times a power of 2."""
    model = resolve_model(name)
    assert model.reduction is not None
    graph = onnx.load_from_string(model.network.data).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    summed = next(node.input[0] for node in graph.node if node.op_type == "ReduceSum")
    scale, _ = float(values[f"{summed}/scale"]).as_integer_ratio()
    places = {"image-int8": 49, "face-int8": 4}[name]
    largest = np.abs(model.reduction.matrix.astype(np.float64)).sum(0).max()
    unit = 2.0**-16
    np.testing.assert_array_equal(
        np.rint(model.reduction.matrix / unit) * unit, model.reduction.matrix
    )
    assert scale * places * 255 < 2**24
    assert scale * places * 255 * largest / unit < 2**53


@pytest.mark.parametrize("name", ["image-int8", "face-int8"])
def test_pairs_of_weights_never_saturate_16_bits(name: str) -> None:
    graph = onnx.load_from_string(resolve_model(name).network.data).graph
    kernels = [
        numpy_helper.to_array(item).astype(np.int64)
        for item in graph.initializer
        if item.name.endswith("/kernel/integers")
    ]
    assert len(kernels) == {"image-int8": 49, "face-int8": 29 + 4}[name]
    for kernel in kernels:
        for order in (kernel, kernel.transpose(0, 2, 3, 1)):
            row = order.reshape(len(order), -1)
            pairs = [row[:, 1:] + row[:, :-1]] if row.shape[1] > 1 else [row]
            assert np.abs(pairs[0]).max(initial=0) * 255 < 2**15
        assert np.abs(kernel).max() <= 127


@pytest.mark.parametrize(("name", "least"), [("image", 0.97), ("face", 0.998)])
def test_vectors_are_close_to_those_of_float32(name: str, least: float) -> None:
    model, exact = resolve_model(f"{name}-int8"), resolve_model(name)
    photos = _photos(model.preprocessing.height)[:2]
    pairs = zip(open_backend(model).embed(photos), open_backend(exact).embed(photos), strict=True)
    for found, wanted in pairs:
        assert float(normalize(found) @ normalize(wanted)) > least


def test_ranges_are_those_of_the_tensors_of_the_network() -> None:
    for name in ("image", "face"):
        graph = onnx.load_from_string(resolve_model(name).network.data).graph
        outputs = {node.output[0] for node in graph.node}
        assert read_ranges(name).keys() <= outputs


def _small_graph(kernel: np.ndarray, mean: tuple[float, ...] = (127.0,) * 3) -> QuantizedGraph:
    graph = QuantizedGraph(6, 7, _RANGES, mean, 64.0)
    bias = np.array([0.5, -0.25, 0.0, 0.125], np.float32)
    x = graph.relu(graph.convolution(graph.source, "a", kernel, bias), "a_relu", ceiling=6)
    square = np.eye(4, dtype=np.float32)[:, :, None, None]
    y = graph.convolution(x, "b", np.float32(0.7) * square, bias)
    z = graph.convolution(x, "c", np.float32(-0.3) * square, bias)
    graph.features(graph.add(y, z, "sum"))
    return graph


@pytest.mark.parametrize("mean", [(127.0,) * 3, (100.5, 120.0, 90.25)])
def test_a_small_network_is_that_of_its_weights(mean: tuple[float, ...]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    kernel = rng.uniform(-0.2, 0.2, (4, 3, 3, 3)).astype(np.float32)
    kernel[3] = 0  # a channel that training has pruned
    data = _small_graph(kernel, mean).to_bytes("small", 4)
    pixels = rng.integers(0, 256, (5, 6, 7, 3), np.uint8)
    (found,) = onnxruntime.InferenceSession(data).run(None, {"pixels": pixels})
    np.testing.assert_array_equal(found, features_by_integers(data, pixels))
    x = (pixels - np.array(mean)) / 64
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    bias = np.array([0.5, -0.25, 0.0, 0.125])
    a = np.clip(np.einsum("nhwcij,ocij->nhwo", windows, kernel.astype(np.float64)) + bias, 0, 3)
    total = np.clip(0.7 * a + bias, -2, 3) + np.clip(-0.3 * a + bias, -2, 2.5)
    # Half a step of each of the three tensors that are rounded, at 20 places, is at most 0.7.
    np.testing.assert_allclose(found, total.sum((1, 2)), rtol=0, atol=0.7)


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(ValueError, match="a_relu: values from -1 to 3"):
        QuantizedGraph(6, 7, {"a_relu": (-1, 3)}, (0,) * 3, 1).relu("x", "a_relu")
    with pytest.raises(ValueError, match="a_relu: values from 0 to 7"):
        QuantizedGraph(6, 7, {"a_relu": (0, 7)}, (0,) * 3, 1).relu("x", "a_relu", ceiling=6)
    graph = QuantizedGraph(6, 7, {}, (1.5, 2, 3), 1)
    with pytest.raises(ValueError, match="padding"):
        kernel, bias = np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)
        graph.convolution(graph.source, "a", kernel, bias, pads=(1, 1))


def test_a_vector_is_normalized_with_a_length_that_is_rounded_once() -> None:
    vector = np.array([3e15, 4e15, 1, 1], np.float32)
    np.testing.assert_array_equal(
        normalize(vector), (vector.astype(np.float64) / 5e15).astype(np.float32)
    )
