"""dlib's face recognition network as a Keras model, and its published weights.

The architecture is ``anet_type`` of dlib's ``dnn_face_recognition_ex.cpp`` by Davis King, a ResNet
with 29 convolutions (He et al., 2016, with fewer layers and half the filters), trained on about
3 million faces: https://github.com/davisking/dlib-models.  In dlib's file each convolution is
followed by an affine layer, its former batch norm; here that is folded into the convolution.

Keras is imported only when a model is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 150
DIMENSION = 128
#: What dlib subtracts from red, green and blue, and then divides by.
MEAN = (122.782, 117.001, 104.298)
STD = (256.0, 256.0, 256.0)

#: Where a face's landmarks belong in the network's input, by kind of landmarks.
TEMPLATES = {
    # The mean shape with which dlib crops faces (`get_face_chip_details`, 5 points), with the
    # padding of 0.25 that the network was trained with.
    "dlib": tuple(
        (100 * (0.25 + x), 100 * (0.25 + y))
        for x, y in (
            (0.8595674595992, 0.2134981538014),
            (0.6460604764104, 0.2289674387677),
            (0.1205750620789, 0.2137274526848),
            (0.3340850613712, 0.2290642403242),
            (0.4901123135679, 0.6277975316475),
        )
    ),
    # The mean position of YuNet's points in faces cropped by dlib.
    "yunet": ((45.65, 43.63), (100.44, 43.59), (70.70, 75.39), (49.07, 98.70), (95.39, 98.39)),
}
#: What is added to a detector's box on every side if it has no landmarks.  0 is best for Haar's
#: boxes, with which a network trained on aligned faces does poorly (docs/faces.md).
MARGIN = 0.0

_STEM = (32, 7)
# Filters and stride of the first convolution of each residual block, input first.
_BLOCKS = (
    *[(32, 1)] * 3,
    *[(64, 2), *[(64, 1)] * 3],
    *[(128, 2), *[(128, 1)] * 2],
    *[(256, 2), *[(256, 1)] * 2],
    (256, 2),
)


def _convolutions() -> Iterator[tuple[str, int, int]]:
    """Yield name, filters and kernel size of every convolution, input first."""
    yield ("stem", *_STEM)
    for number, (filters, _) in enumerate(_BLOCKS):
        yield f"block{number:02d}_a", filters, 3
        yield f"block{number:02d}_b", filters, 3


def keras_weights(
    layers: Sequence[tuple[str, npt.NDArray[np.float32]]],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of dlib's network as Keras names and shapes them.

    Args:
        layers: kind and parameters of each layer, from
            :func:`featureid.models.building.dlib_network.read_dlib_network`.

    Returns:
        ``layer/variable`` to float32 array, with the shapes of :func:`build_embedding`.

    Raises:
        ModelError: the layers belong to another network.
    """
    convolutions = list(_convolutions())
    if [kind for kind, _ in layers] != ["con", "affine"] * len(convolutions) + ["fc"]:
        raise ModelError(
            f"not dlib's face network: its {len(layers)} layers differ in kind or number"
        )
    values = iter(values for _, values in layers)
    weights: dict[str, npt.NDArray[np.float32]] = {}
    inputs = 3
    for name, filters, size in convolutions:
        # dlib: (out, in, height, width), then the biases; gammas, then betas.
        convolution, affine = next(values), next(values)
        if convolution.size != filters * (inputs * size * size + 1) or affine.size != 2 * filters:
            raise ModelError(f"not dlib's face network: layer {name} has another size")
        bias = convolution[-filters:].astype(np.float64)
        kernel = convolution[:-filters].reshape(filters, inputs, size, size).transpose(2, 3, 1, 0)
        gamma, beta = affine.astype(np.float64).reshape(2, filters)
        weights[f"{name}/kernel"] = np.ascontiguousarray(kernel * gamma, np.float32)
        weights[f"{name}/bias"] = (bias * gamma + beta).astype(np.float32)
        inputs = filters
    dense = next(values)
    if dense.size != inputs * DIMENSION:
        raise ModelError("not dlib's face network: the dense layer has another size")
    weights["embedding/kernel"] = dense.reshape(inputs, DIMENSION)
    return weights


def build_embedding(pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Connect the network to ``pixels`` (n, 150, 150, 3) and return its vectors (n, 128).

    Args:
        pixels: RGB from 0 to 255, minus :data:`MEAN`, divided by :data:`STD`.
    """
    from keras import layers

    def convolve(x: keras.KerasTensor, name: str, stride: int = 1) -> keras.KerasTensor:
        filters, size = shapes[name]
        # dlib pads only the convolutions that keep the size.
        padding = "same" if stride == 1 else "valid"
        return layers.Conv2D(filters, size, stride, padding=padding, name=name)(x)

    shapes = {name: (filters, size) for name, filters, size in _convolutions()}
    x = layers.ReLU(name="stem_relu")(convolve(pixels, "stem", 2))
    x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for number, (filters, stride) in enumerate(_BLOCKS):
        name = f"block{number:02d}"
        shortcut = x
        x = layers.ReLU(name=f"{name}_a_relu")(convolve(x, f"{name}_a", stride))
        x = convolve(x, f"{name}_b")
        if stride == 2:
            shortcut = layers.AveragePooling2D(2, name=f"{name}_pool")(shortcut)
            if shortcut.shape[-1] < filters:
                zeros = layers.Rescaling(0.0, name=f"{name}_zeros")(shortcut)
                shortcut = layers.Concatenate(name=f"{name}_widen")([shortcut, zeros])
            # Where the pool has one row and column more than x, dlib treats those of x as 0.
            missing = shortcut.shape[1] - x.shape[1]
            if missing:
                x = layers.ZeroPadding2D(((0, missing), (0, missing)), name=f"{name}_pad")(x)
        x = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(DIMENSION, use_bias=False, name="embedding")(x)
