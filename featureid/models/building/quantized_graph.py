"""Write convolutional networks of 8-bit integers as ONNX: weights int8, everything between uint8.

A tensor stands for ``scale * (integer - zero point)``.  Weights have a scale per output channel,
everything else has one per tensor, from the range of values that were seen in images.  In the file
the operators work on floats between ``DequantizeLinear`` and ``QuantizeLinear``; ONNX Runtime
replaces each such group by one operator on integers.

Vectors must not depend on the processor.  x86 without VNNI adds the products of two neighboring
weights in 16 bits, with saturation, so the scales of weights are such that this never happens, and
a convolution's integers are exact everywhere.  Each other step is rounded once or not at all:

- Scales have few binary digits, so that their products are exact, and a convolution's integer is
  multiplied by one float32 number and rounded, halves to even.
- The scale of a sum is an odd multiple of a power of 2 that divides the scales of its terms.  So
  the exact result is a multiple of 1 / odd: never halfway between two integers, where
  implementations differ, and farther from it than what float32 arithmetic may lose.
- The features are sums, not means, of integers times a scale of few digits: exact in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.onnx_graph import OnnxGraph, Weights, convolution_attributes

Ranges = Mapping[str, tuple[float, float]]

_LEVELS = 255
_LARGEST_WEIGHT = 127
_LARGEST_PAIR = 128  # 128 * 255 fits into 16 bits with sign
_SCALE_BITS = 6
_WEIGHT_SCALE_BITS = 10
_BIAS_LIMIT = 2.0**30
_SMALLEST_SCALE = 2.0**-40
_ODD_LIMIT = 1 << 8


@dataclass(frozen=True)
class _Scale:
    """What the integers of a tensor stand for; all values are multiples of ``unit``."""

    scale: float
    zero: int
    unit: float


class QuantizedGraph(OnnxGraph):
    """A network of integers that grows node by node.

    Its input ``pixels`` is uint8 (n, height, width, 3), RGB, not scaled; its output ``features`` is
    float32, the sum of every channel.

    Args:
        height: of the input.
        width: of the input.
        ranges: lowest and highest value of every tensor that a convolution, an activation or a sum
            passes on, by name.
        mean: of red, green and blue, subtracted from pixels.
        std: a power of 2, by which the differences are then divided.
    """

    def __init__(
        self, height: int, width: int, ranges: Ranges, mean: Sequence[float], std: float
    ) -> None:
        super().__init__(height, width)
        self._declared_input = (np.uint8, ["n", height, width, 3])
        self._ranges = ranges
        self._scales: dict[str, _Scale] = {}
        # Scale and unit of what is not quantized yet, since an activation may follow.
        self._units: dict[str, float] = {}
        planes = self.node("Transpose", "planes", "pixels", perm=[0, 3, 1, 2])
        whole = {*mean} == {round(mean[0])}
        zero = round(mean[0]) if whole else 0
        self._offset = np.zeros(3) if whole else np.array(mean, np.float64) / std
        self.source = self._dequantized(planes, "scaled", _Scale(1 / std, zero, 1 / std))

    def convolution(
        self,
        x: str,
        name: str,
        kernel: Weights,
        bias: Weights,
        *,
        stride: int = 1,
        pads: Sequence[int] = (0, 0),
        groups: int = 1,
    ) -> str:
        """Convolve ``x``, see the method of the base class."""
        step = self._scales[x].scale
        bias = bias.astype(np.float64)
        # Channels that were pruned in training have weights of about 0, and a bias.
        least = np.maximum(np.abs(bias) / (step * _BIAS_LIMIT), _SMALLEST_SCALE)
        scale = _few_digits(np.maximum(_weight_scales(kernel), least), _WEIGHT_SCALE_BITS)
        integers = np.rint(kernel / scale[:, None, None, None])
        if x == self.source and self._offset.any():
            if any(pads):
                raise ValueError("the padding of a network's input must stand for its mean")
            bias = bias - (integers.sum((2, 3)) * self._offset).sum(1) * scale
        values = {"kernel": (integers.astype(np.int8), scale)}
        values["bias"] = (np.rint(bias / (step * scale)).astype(np.int32), step * scale)
        inputs = [self._constant(f"{name}/{part}", *values[part]) for part in values]
        attributes = convolution_attributes(stride, pads, groups)
        result = self.node("Conv", f"{name}/float", x, *inputs, **attributes)
        return self._in_range(result, name) if name in self._ranges else result

    def relu(self, x: str, name: str, ceiling: float | None = None) -> str:
        """Quantize to a range that begins at 0, where integers saturate."""
        low, high = self._ranges[name]
        if low or (ceiling is not None and high > ceiling):
            raise ValueError(f"{name}: values from {low} to {high} are not those of an activation")
        return self._in_range(x, name)

    def add(self, x: str, y: str, name: str) -> str:
        """Add two tensors of one shape."""
        total = super().add(x, y, f"{name}/float")
        self._units[total] = min(self._scales[x].unit, self._scales[y].unit)
        return self._in_range(total, name) if name in self._ranges else total

    def max_pool(self, x: str, name: str, side: int, stride: int) -> str:
        """Take the largest value of every square, without padding."""
        pooled = super().max_pool(x, f"{name}/float", side, stride)
        return self._quantized(pooled, name, self._scales[x])

    def average_pool(self, x: str, name: str, side: int, channels: int) -> str:
        """Take the mean of every square, by a convolution, which is rounded as all others are."""
        kernel = np.full((channels, 1, side, side), 1 / side**2, np.float32)
        bias = np.zeros(channels, np.float32)
        mean = self.convolution(x, name, kernel, bias, stride=side, groups=channels)
        before = self._scales[x]
        return self._quantized(mean, name, _scale(before.scale, -before.zero * before.scale))

    def pad(self, x: str, name: str, *, channels: int = 0, sides: int = 0) -> str:
        """Append channels of zeros, or rows below and columns on the right."""
        padded = super().pad(x, f"{name}/float", channels=channels, sides=sides)
        return self._quantized(padded, name, self._scales[x])

    def features(self, x: str) -> str:
        """Take the sum of every channel as the network's output, ``features``."""
        axes = self.constant("places", np.array([2, 3], np.int64))
        return self.node("ReduceSum", "features", x, axes, keepdims=0)

    def _in_range(self, x: str, name: str) -> str:
        low, high = self._ranges[name]
        step = (high - low) / _LEVELS
        if x in self._units:
            return self._quantized(x, name, _odd_scale(step, self._units[x], low))
        return self._quantized(x, name, _scale(step, low))

    def _quantized(self, x: str, name: str, scale: _Scale) -> str:
        numbers = self._numbers(name, scale)
        integers = self.node("QuantizeLinear", f"{name}/integers", x, *numbers)
        return self._dequantized(integers, name, scale)

    def _dequantized(self, x: str, name: str, scale: _Scale) -> str:
        self._scales[name] = scale
        return self.node("DequantizeLinear", name, x, *self._numbers(name, scale))

    def _numbers(self, name: str, scale: _Scale) -> tuple[str, str]:
        return (
            self.constant(f"{name}/scale", np.array(scale.scale, np.float32)),
            self.constant(f"{name}/zero", np.array(scale.zero, np.uint8)),
        )

    def _constant(
        self, name: str, integers: npt.NDArray[Any], scale: npt.NDArray[np.float64]
    ) -> str:
        values = self.constant(f"{name}/integers", integers)
        scales = self.constant(f"{name}/scale", scale.astype(np.float32))
        return self.node("DequantizeLinear", name, values, scales, axis=0)


def _weight_scales(kernel: Weights) -> npt.NDArray[np.float64]:
    """Return the smallest scale of each output channel with which no pair of weights is too large.

    A pair are two neighbors of equal sign, be the input's channels its first axis or its last.
    """
    kernel = kernel.astype(np.float64)
    scales: npt.NDArray[np.float64] = np.abs(kernel).max((1, 2, 3)) / _LARGEST_WEIGHT
    for order in (kernel, kernel.transpose(0, 2, 3, 1)):
        rows = np.pad(order.reshape(len(order), -1), ((0, 0), (0, 1)))
        for signed in (np.maximum(rows, 0), np.maximum(-rows, 0)):
            pairs = (signed[:, 1:] + signed[:, :-1]).max(1)
            # Each of the two may be rounded up by a half.
            scales = np.maximum(scales, pairs / (_LARGEST_PAIR - 0.5))
    return scales


def _few_digits(values: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.float64]:
    """Return the next numbers above, or equal to, positive ones that have so many binary digits."""
    fractions, exponents = np.frexp(values)
    next_above: npt.NDArray[np.float64] = np.ldexp(np.ceil(fractions * 2.0**bits), exponents - bits)
    return next_above


def _scale(step: float, low: float) -> _Scale:
    """Return the next scale above ``step`` of few digits."""
    scale = float(_few_digits(np.array(step), _SCALE_BITS))
    unit = math.ldexp(1.0, math.frexp(scale)[1] - _SCALE_BITS)
    return _Scale(scale, round(-low / scale), unit)


def _odd_scale(step: float, unit: float, low: float) -> _Scale:
    """Return the next scale above ``step`` that is an odd multiple of ``unit`` or a part of it.

    The multiple is more than 32, so that the scale is within 6 % of ``step``.
    """
    while step <= 32 * unit:
        unit /= 2
    odd = math.ceil(step / unit) | 1
    if odd >= _ODD_LIMIT:
        raise ValueError(f"the terms of a sum differ too much in scale: {odd}")
    return _Scale(odd * unit, round(-low / (odd * unit)), unit)
