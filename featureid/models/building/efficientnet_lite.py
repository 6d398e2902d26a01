"""EfficientNet-Lite0 without its classifier, as a Keras model, and its published weights.

The architecture is EfficientNet-Lite0 of the TensorFlow authors
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite): EfficientNet-B0
with ReLU6 instead of swish and without squeeze-and-excitation.  The checkpoint is their checkpoint
converted to PyTorch, so paddings are TensorFlow's ``SAME`` and the batch-norm epsilon is 1e-3.

Keras is imported only when a model is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 224
FEATURES = 1280
_STEM_CHANNELS = 32
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


def keras_weights(
    state: Mapping[str, npt.NDArray[Any]],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the feature extractor's weights from a PyTorch checkpoint, as Keras names them.

    Args:
        state: the state dict of an ``efficientnet_lite0`` checkpoint, with PyTorch's names.

    Returns:
        ``layer/variable`` to float32 array, with the shapes of :func:`build_features`.

    Raises:
        KeyError: the state dict belongs to another network.
    """
    weights = {}
    for name, (convolution, norm) in _checkpoint_names().items():
        # PyTorch: (out, in / groups, height, width); a depthwise kernel is (channels, 1, h, w).
        axes = (2, 3, 0, 1) if name.endswith("_depthwise") else (2, 3, 1, 0)
        weights[f"{name}_conv/kernel"] = state[f"{convolution}.weight"].transpose(axes)
        weights[f"{name}_norm/gamma"] = state[f"{norm}.weight"]
        weights[f"{name}_norm/beta"] = state[f"{norm}.bias"]
        weights[f"{name}_norm/moving_mean"] = state[f"{norm}.running_mean"]
        weights[f"{name}_norm/moving_variance"] = state[f"{norm}.running_var"]
    return {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}


def build_features(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Connect the network to ``pixels`` (n, 224, 224, 3) and return its features (n, 1280).

    Args:
        pixels: RGB, scaled as in training: (x - 127) / 128 for x from 0 to 255.
    """
    from keras import layers

    def norm(x: keras.KerasTensor, name: str, relu: bool = True) -> keras.KerasTensor:
        x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_norm")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x

    def convolve(
        x: keras.KerasTensor, name: str, filters: int, kernel: int, stride: int, relu: bool = True
    ) -> keras.KerasTensor:
        x = layers.Conv2D(
            filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        return norm(x, name, relu)

    x = convolve(pixels, "stem", _STEM_CHANNELS, 3, 2)
    for block in _blocks():
        shortcut = x
        if block.expansion != 1:
            x = convolve(x, f"{block.name}_expand", block.channels_in * block.expansion, 1, 1)
        name = f"{block.name}_depthwise"
        x = layers.DepthwiseConv2D(
            block.kernel, block.stride, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        x = norm(x, name)
        x = convolve(x, f"{block.name}_project", block.channels_out, 1, 1, relu=False)
        if block.is_residual:
            x = layers.Add(name=f"{block.name}_add")([x, shortcut])
    x = convolve(x, "head", FEATURES, 1, 1)
    return layers.GlobalAveragePooling2D(name="pool")(x)
