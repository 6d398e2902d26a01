"""The networks that are trained, in Keras, and their weights as bundles take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from featureid.training.options import Augment

Weights = npt.NDArray[np.float32]

# What the published ImageDataGenerator varies: rotations by up to 20 degrees, shifts by up to a
# fifth of the image, mirror images; what moves in repeats the border.
_ROTATION, _SHIFT, _FILL = 20 / 360, 0.2, "nearest"
_FILTERS, _HIDDEN = (32, 64, 128), 256


def published_cnn(height: int, width: int, dimension: int) -> keras.Model:
    """Return the published network: three convolutions, a hidden layer, and the embedding.

    Args:
        height: of the input, (n, height, width, 3), from 0 to 1; at least 22 pixels.
        width: likewise.
        dimension: of the output; 128 in the publication.
    """
    source = x = keras.Input((height, width, 3))
    for number, filters in enumerate(_FILTERS, 1):
        x = keras.layers.Conv2D(filters, 3, activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(_HIDDEN, activation="relu", name="hidden")(x)
    return keras.Model(source, keras.layers.Dense(dimension, name="embedding")(x))


def linear_head(matrix: Weights, offset: Weights | None = None) -> keras.Model:
    """Return a linear map of features.

    Args:
        matrix: (features, dimension), what it is before training.
        offset: (dimension,), what is then added to the product; None for 0.
    """
    source = keras.Input((matrix.shape[0],))
    layer = keras.layers.Dense(matrix.shape[1], name="head")
    model = keras.Model(source, layer(source))
    none = np.zeros(matrix.shape[1], np.float32)
    layer.set_weights([matrix, none if offset is None else offset])
    return model


def augmentation(kind: Augment, seed: int) -> list[keras.Layer]:
    """Return the layers that vary images; the published method turns, shifts and mirrors them."""
    if kind == "none":
        return []
    mirrored = keras.layers.RandomFlip("horizontal", seed=seed + 2)
    if kind == "mirror":
        return [mirrored]
    return [
        keras.layers.RandomRotation(_ROTATION, fill_mode=_FILL, seed=seed),
        keras.layers.RandomTranslation(_SHIFT, _SHIFT, fill_mode=_FILL, seed=seed + 1),
        mirrored,
    ]


def trainable(
    network: keras.Model, before: Sequence[keras.Layer] = (), raw: bool = False
) -> keras.Model:
    """Return a network as it is trained.

    Args:
        network: what becomes the model.
        before: layers in front of it.
        raw: train on its output as it is, as published, and not on vectors of unit length.
    """
    x = source = keras.Input(network.input_shape[1:])
    for layer in before:
        x = layer(x)
    x = network(x)
    return keras.Model(source, x if raw else keras.layers.UnitNormalization(name="unit")(x))


def arrays_of(network: keras.Model) -> dict[str, Weights]:
    """Return the weights of a network by layer and kind, ``conv1/kernel`` and so on."""
    found: dict[str, Any] = {}
    for layer in network.layers:
        for variable in layer.weights:
            found[f"{layer.name}/{variable.name}"] = np.asarray(variable.value, np.float32)
    return found
