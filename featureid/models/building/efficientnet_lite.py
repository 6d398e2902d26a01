"""EfficientNet-Lite0 without its classifier, as an ONNX network, from its published weights.

The architecture is EfficientNet-Lite0 of the TensorFlow authors
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): EfficientNet-B0
with ReLU6 instead of swish and without squeeze-and-excitation.  The checkpoint is their checkpoint
converted to PyTorch, so paddings are TensorFlow's ``SAME`` and the batch-norm epsilon is 1e-3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.onnx_graph import OnnxGraph, Weights

IMAGE_SIZE = 224
FEATURES = 1280
_EPSILON = 1e-3

# repeats, kernel, stride of the first repeat, expansion, channels in, channels out
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


@dataclass(frozen=True)
class _Block:
    """One inverted residual block; ``name`` prefixes its layers and its checkpoint entries."""

    index: int
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int

    @property
    def name(self) -> str:
        return f"block{self.index:02d}"

    @property
    def is_residual(self) -> bool:
        return self.stride == 1 and self.channels_in == self.channels_out


def _blocks() -> Iterator[_Block]:
    index = 0
    for repeats, kernel, stride, expansion, channels_in, channels_out in _STAGES:
        for repeat in range(repeats):
            first = repeat == 0
            yield _Block(
                index,
                kernel,
                stride if first else 1,
                expansion,
                channels_in if first else channels_out,
                channels_out,
            )
            index += 1


def _checkpoint_names() -> dict[str, tuple[str, str]]:
    """Return layer to the names of its convolution and batch norm in the checkpoint."""
    names = {"stem": ("_conv_stem", "_bn0")}
    for block in _blocks():
        prefix = f"_blocks.{block.index}."
        if block.expansion != 1:
            names[f"{block.name}_expand"] = (f"{prefix}_expand_conv", f"{prefix}_bn0")
        names[f"{block.name}_depthwise"] = (f"{prefix}_depthwise_conv", f"{prefix}_bn1")
        names[f"{block.name}_project"] = (f"{prefix}_project_conv", f"{prefix}_bn2")
    names["head"] = ("_conv_head", "_bn1")
    return names


def folded_weights(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, Weights]:
    """Return the feature extractor's weights, with the batch norms folded into the convolutions.

    Args:
        state: the state dict of an ``efficientnet_lite0`` checkpoint, with PyTorch's names.

    Returns:
        ``layer/kernel`` to float32 (channels out, channels in / groups, height, width), and
        ``layer/bias`` to (channels out,), folded in float64.

    Raises:
        KeyError: the state dict belongs to another network.
    """
    weights = {}
    for name, (convolution, norm) in _checkpoint_names().items():
        kernel = state[f"{convolution}.weight"].astype(np.float64)
        gamma, beta, mean, variance = (
            state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _EPSILON)
        weights[f"{name}/kernel"] = (kernel * scale[:, None, None, None]).astype(np.float32)
        weights[f"{name}/bias"] = (beta - mean * scale).astype(np.float32)
    return weights


def write_network(weights: Mapping[str, Weights], graph: OnnxGraph) -> bytes:
    """Return the network as ONNX.

    Its input are pixels of (n, 3, 224, 224), RGB, scaled as in training: (x - 127) / 128 for x from
    0 to 255; its output ``features`` is float32 (n, 1280).

    Args:
        weights: from :func:`folded_weights`.
        graph: an empty one, to which it is written.
    """
    side = IMAGE_SIZE

    def convolve(x: str, name: str, stride: int = 1, relu: bool = True) -> str:
        nonlocal side
        kernel = weights[f"{name}/kernel"]
        pads = _same_padding(side, kernel.shape[-1], stride)
        groups = len(kernel) if name.endswith("_depthwise") else 1
        bias = weights[f"{name}/bias"]
        x = graph.convolution(x, name, kernel, bias, stride=stride, pads=pads, groups=groups)
        side = -(-side // stride)
        return graph.relu(x, f"{name}_relu", ceiling=6) if relu else x

    x = convolve(graph.source, "stem", 2)
    for block in _blocks():
        shortcut = x
        if block.expansion != 1:
            x = convolve(x, f"{block.name}_expand")
        x = convolve(x, f"{block.name}_depthwise", block.stride)
        x = convolve(x, f"{block.name}_project", relu=False)
        if block.is_residual:
            x = graph.add(x, shortcut, f"{block.name}_add")
    graph.features(convolve(x, "head"))
    return graph.to_bytes("image", FEATURES)


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's ``SAME`` padding, before and after: the odd one comes after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2
