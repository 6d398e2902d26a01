"""A quantized network computed with integers alone, to compare a runtime with, bit by bit.

It follows the ONNX graph.  Products are summed in float64, where integers below 2**53 are exact; a
convolution's sum is multiplied by one float32 number and rounded, halves to even; everything else
is rounded from its exact value.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class _Exact:
    """Numbers that are ``integers * scale``; a convolution's have a scale per channel."""

    integers: np.ndarray
    scale: np.ndarray


def features_by_integers(network: bytes, pixels: np.ndarray) -> np.ndarray:
    """Return the features (n, d) of a network for its input, float64, exact.

    Raises:
        AssertionError: a sum lies halfway between two integers, where implementations differ.
    """
    graph = onnx.load_from_string(network).graph
    values: dict[str, Any] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    values[graph.input[0].name] = pixels
    for node in graph.node:
        inputs = [values[name] for name in node.input]
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        values[node.output[0]] = _OPERATORS[node.op_type](*inputs, **attributes)
    features = values[graph.output[0].name]
    return np.asarray(features.integers * features.scale)


def _dequantize(
    integers: np.ndarray, scale: np.ndarray, zero: int | np.ndarray = 0, axis: int = 1
) -> _Exact:
    return _Exact(integers.astype(np.int64) - np.int64(zero), scale.astype(np.float64))


def _quantize(x: _Exact, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    if x.scale.ndim:
        factors = x.scale.astype(np.float32) / scale
        assert factors.dtype == np.float32
        rounded = np.rint(x.integers.astype(np.float32) * factors[:, None, None])
    else:
        ratio = Fraction(float(x.scale)) / Fraction(float(scale))
        doubled = x.integers * (2 * ratio.numerator) + ratio.denominator
        rounded, rest = np.divmod(doubled, 2 * ratio.denominator)
        assert ratio == 1 or rest.all(), "a half"
    integers: np.ndarray = np.clip(rounded.astype(np.int64) + int(zero), 0, 255)
    return integers.astype(np.uint8)


def _convolve(
    x: _Exact,
    kernel: _Exact,
    bias: _Exact,
    strides: list[int],
    pads: list[int],
    group: int,
) -> _Exact:
    top, left, bottom, right = pads
    padded = np.pad(x.integers, ((0, 0), (0, 0), (top, bottom), (left, right)))
    size = kernel.integers.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, (2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1]].astype(np.float64)
    weights = kernel.integers.astype(np.float64)
    if group == 1:
        sums = np.tensordot(windows, weights, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    else:
        assert group == len(weights)
        sums = np.einsum("nchwij,cij->nchw", windows, weights[:, 0])
    scale = x.scale * kernel.scale
    assert np.array_equal(scale, bias.scale)
    return _Exact(sums.astype(np.int64) + bias.integers[:, None, None], scale)


def _add(x: _Exact, y: _Exact) -> _Exact:
    first, second = Fraction(float(x.scale)), Fraction(float(y.scale))
    unit = Fraction(1, max(first.denominator, second.denominator))
    terms = x.integers * int(first / unit) + y.integers * int(second / unit)
    return _Exact(terms, np.array(float(unit)))


def _max_pool(x: _Exact, kernel_shape: list[int], strides: list[int]) -> _Exact:
    windows = np.lib.stride_tricks.sliding_window_view(x.integers, kernel_shape, (2, 3))
    return _Exact(windows[:, :, :: strides[0], :: strides[1]].max((4, 5)), x.scale)


def _pad(x: _Exact, pads: np.ndarray) -> _Exact:
    return _Exact(np.pad(x.integers, [*zip(pads[:4], pads[4:], strict=True)]), x.scale)


def _transpose(pixels: np.ndarray, perm: list[int]) -> np.ndarray:
    return pixels.transpose(perm)


def _sum(x: _Exact, axes: np.ndarray, keepdims: int) -> _Exact:
    assert not keepdims
    return _Exact(x.integers.sum(tuple(axes)), x.scale)


_OPERATORS: dict[str, Any] = {
    "Add": _add,
    "Conv": _convolve,
    "DequantizeLinear": _dequantize,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceSum": _sum,
    "Transpose": _transpose,
}
