"""Pooling and reduction: from the output of a network to one vector per image."""

from __future__ import annotations

import io

import numpy as np
import pytest

from featureid.errors import BundleError, ModelError
from featureid.models.features import Reduction, pool, read_reduction


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def test_outputs_of_one_vector_are_taken_as_they_are() -> None:
    outputs = _random(3, 7)
    np.testing.assert_array_equal(pool(outputs, "none", 7), outputs)
    np.testing.assert_array_equal(pool(outputs.reshape(3, 7, 1, 1), "none", 7), outputs)
    np.testing.assert_array_equal(pool(outputs.reshape(3, 1, 1, 7), "none", 7), outputs)


def test_tokens_are_pooled() -> None:
    outputs = _random(3, 50, 7)
    np.testing.assert_array_equal(pool(outputs, "cls", 7), outputs[:, 0])
    mean = outputs.astype(np.float64).mean(1)
    np.testing.assert_array_equal(pool(outputs, "mean", 7), mean.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "pooling"),
    [
        ((3,), "none"),
        ((3, 8), "none"),
        ((3, 7, 7), "none"),
        ((3, 7), "cls"),
        ((3, 7), "mean"),
        ((3, 5, 8), "cls"),
        ((3, 0, 7), "mean"),
        ((3, 2, 5, 7), "mean"),
    ],
)
def test_outputs_of_another_shape_are_refused(shape: tuple[int, ...], pooling: str) -> None:
    with pytest.raises(ModelError, match=r"pooling '\w+' cannot take 7 features per image"):
        pool(np.zeros(shape, np.float32), pooling, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [None, _random(9)])
def test_a_reduction_is_computed_in_float64(offset: np.ndarray | None) -> None:
    features, reduction = _random(5, 40) + 1000, Reduction(_random(40, 9), offset)
    exact = features.astype(np.float64) @ reduction.matrix.astype(np.float64)
    exact += 0 if offset is None else offset
    found = reduction.apply(features)
    assert found.dtype == np.float32 and found.shape == (5, 9)
    np.testing.assert_array_almost_equal_nulp(found, exact.astype(np.float32), 1)


def test_the_reduction_of_a_vector_does_not_depend_on_its_batch() -> None:
    features, reduction = _random(33, 1280), Reduction(_random(1280, 128))
    together = reduction.apply(features)
    for size in (1, 3, 8):
        parts = [reduction.apply(features[i : i + size]) for i in range(0, 33, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    assert reduction.apply(features[:0]).shape == (0, 128)


def test_features_are_divided_by_their_length_if_a_reduction_was_made_so() -> None:
    reduction = Reduction(_random(40, 9), _random(9), unit=True)
    features = _random(5, 40)
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    exact = features / lengths @ reduction.matrix.astype(np.float64) + reduction.offset
    np.testing.assert_array_almost_equal_nulp(
        reduction.apply(features), exact.astype(np.float32), 1
    )
    np.testing.assert_allclose(reduction.apply(7 * features), exact, rtol=1e-5)
    assert not np.isfinite(reduction.apply(np.zeros((1, 40), np.float32))).any()
    assert reduction != Reduction(reduction.matrix, reduction.offset)


@pytest.mark.parametrize("offset", [None, _random(9)])
def test_a_reduction_is_read_back(offset: np.ndarray | None) -> None:
    reduction = Reduction(_random(4, 9), offset)
    again = read_reduction(reduction.to_npy(), 4, 9)
    assert again == reduction and hash(again) == hash(reduction)
    assert again != Reduction(_random(4, 9) + 1, offset) and again != "a reduction"
    assert np.load(io.BytesIO(reduction.to_npy())).shape == (4 + (offset is not None), 9)


def test_the_order_in_memory_does_not_change_the_file() -> None:
    matrix = _random(4, 9)
    assert Reduction(np.asfortranarray(matrix)).to_npy() == Reduction(matrix).to_npy()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY\x01\x00\xff\xff{",
        _npy(_random(4, 9)).replace(b"\x01\x00", b"\x02\x00", 1),
        _npy(np.zeros((4, 9))),
        _npy(np.zeros((4, 9), ">f4")),
        _npy(np.asfortranarray(_random(4, 9))),
        _npy(_random(9, 4)),
        _npy(_random(4, 9))[:-1],
        _npy(_random(4, 9)) + b"\0",
    ],
)
def test_another_file_is_not_taken_for_a_reduction(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"not a complete .npy .* \(4, 9\) or, .* \(5, 9\)"):
        read_reduction(data, 4, 9)


@pytest.mark.parametrize("rows", [4, 5])
def test_a_reduction_that_is_not_finite_is_refused(rows: int) -> None:
    with pytest.raises(BundleError, match="must be finite"):
        read_reduction(_npy(np.full((rows, 9), np.nan, np.float32)), 4, 9)


@pytest.mark.parametrize(
    "reduction",
    [
        lambda: Reduction(np.zeros((3, 2))),  # type: ignore[arg-type]
        lambda: Reduction(np.zeros(3, np.float32)),
        lambda: Reduction(np.zeros((0, 2), np.float32)),
        lambda: Reduction(_random(3, 2), _random(3)),
        lambda: Reduction(_random(3, 2), _random(2).astype("f8")),
    ],
)
def test_an_invalid_reduction_is_refused(reduction: object) -> None:
    with pytest.raises(BundleError, match="reduction"):
        reduction()  # type: ignore[operator]
