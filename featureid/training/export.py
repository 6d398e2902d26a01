"""What has been trained, as a model bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from featureid.images.resize import STRETCH
from featureid.models.bundle import ModelBundle, Network, NetworkInput, network_digest
from featureid.models.features import Reduction
from featureid.models.preprocessing import PIXELS_REVISION, Preprocessing
from featureid.onnx_graph import OnnxGraph, Weights

_CNN = "published-cnn-1"
_STAGES = (1, 2, 3)


def cnn_preprocessing(height: int, width: int) -> Preprocessing:
    """Return the published preprocessing: the image as a whole, resized, from 0 to 1."""
    return Preprocessing(height, width, (0.0,) * 3, (255.0,) * 3, STRETCH, PIXELS_REVISION)


def cnn_bundle(
    name: str, weights: Mapping[str, Weights], preprocessing: Preprocessing, provenance: str
) -> ModelBundle:
    """Return the published network as a model.

    The dense layers are written as convolutions over all of their input, so that each image is
    computed alone, whatever the batch.

    Args:
        name: of the model.
        weights: from :func:`featureid.training.networks.arrays_of`.
        preprocessing: what the network was trained with.
        provenance: one line about the training.
    """
    graph = OnnxGraph(preprocessing.height, preprocessing.width)
    x, side = graph.source, (preprocessing.height, preprocessing.width)
    for stage in _STAGES:
        kernel = weights[f"conv{stage}/kernel"].transpose(3, 2, 0, 1)
        x = graph.convolution(x, f"conv{stage}", kernel, weights[f"conv{stage}/bias"])
        x = graph.max_pool(graph.relu(x, f"relu{stage}"), f"pool{stage}", 2, 2)
        side = (side[0] - 2) // 2, (side[1] - 2) // 2
    hidden, embedding = weights["hidden/kernel"], weights["embedding/kernel"]
    # Keras flattens rows, columns, channels.
    kernel = hidden.reshape(*side, -1, hidden.shape[1]).transpose(3, 2, 0, 1)
    x = graph.relu(graph.convolution(x, "hidden", kernel, weights["hidden/bias"]), "hidden_relu")
    kernel = embedding.T[:, :, None, None]
    x = graph.convolution(x, "embedding", kernel, weights["embedding/bias"])
    x = graph.node("Flatten", "features", x)
    dimension = embedding.shape[1]
    source = NetworkInput("pixels", "nchw", "float32")
    network = Network("model.onnx", graph.to_bytes(_CNN, dimension), source, "features")
    return ModelBundle(
        name=name,
        architecture=_CNN,
        digest=network_digest(network, "none", None, preprocessing),
        native_dimension=dimension,
        dimension=dimension,
        preprocessing=preprocessing,
        network=network,
        provenance=provenance,
        license="not stated",
        statistics={"parameters": sum(array.size for array in weights.values())},
    )


def head_bundle(base: ModelBundle, name: str, reduction: Reduction, provenance: str) -> ModelBundle:
    """Return a model with another reduction: same network, same size, same speed.

    Args:
        base: the model whose features the reduction takes.
        name: of the new model.
        reduction: what follows the network.
        provenance: one line about the training; that of the base is added.
    """
    matrix = reduction.matrix
    old = base.reduction.matrix.size if base.reduction else 0
    statistics = dict(base.statistics)
    if "parameters" in statistics:
        statistics["parameters"] += matrix.size - old
    return replace(
        base,
        name=name,
        architecture=f"{base.architecture}, trained head",
        digest=network_digest(base.network, base.pooling, reduction, base.preprocessing),
        dimension=matrix.shape[1],
        reduction=reduction,
        provenance=f"{provenance}; {base.provenance}",
        statistics=statistics,
    )
