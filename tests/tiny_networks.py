"""A convolutional network of a few hundred weights, in the forms in which people have theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from featureid.images.resize import STRETCH
from featureid.models import ModelBundle, Preprocessing
from featureid.models.bundle import Network, NetworkInput, with_own_digest
from featureid.models.features import Reduction

HEIGHT, WIDTH, FEATURES, DIMENSION = 8, 10, 4, 5
MEAN, STD = (127.0, 100.0, 90.0), (128.0, 64.0, 100.0)
PREPROCESSING = Preprocessing(HEIGHT, WIDTH, MEAN, STD, STRETCH, 2)
# Made by tests/golden/make_tflite.py, which needs TensorFlow.
TFLITE = (Path(__file__).parent / "golden" / "tiny.tflite").read_bytes()


def weights() -> dict[str, np.ndarray]:
    """Return the kernel (4, 3, 3, 3), out and in first, the bias, the reduction and its offset."""
    rng = np.random.default_rng(5)
    shapes = {"kernel": (FEATURES, 3, 3, 3), "bias": (FEATURES,)}
    shapes |= {"matrix": (FEATURES, DIMENSION), "offset": (DIMENSION,)}
    return {name: rng.uniform(-1, 1.5, size).astype(np.float32) for name, size in shapes.items()}


def features_by_hand(images: np.ndarray) -> np.ndarray:
    """Return the network's activations (n, 4, 5, 4), computed by NumPy in float64."""
    x = np.pad((images - np.array(MEAN)) / np.array(STD), ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    values = weights()
    x = np.einsum("nhwcij,ocij->nhwo", windows, values["kernel"].astype(np.float64))
    return np.asarray(np.clip(x + values["bias"], 0, 6))


def vectors_by_hand(images: np.ndarray) -> np.ndarray:
    """Return the model's vectors (n, 5), computed by NumPy in float64."""
    values = weights()
    pooled = features_by_hand(images).mean((1, 2))
    return np.asarray(pooled @ values["matrix"].astype(np.float64) + values["offset"])


def onnx_network(
    layout: str = "nchw",
    dtype: str = "float32",
    batch: int | None = None,
    tokens: bool = False,
    **changes: Any,
) -> bytes:
    """Return the network as ONNX.

    Args:
        layout: of its input, ``nchw`` or ``nhwc``.
        dtype: of its input; with ``uint8`` it scales the pixels itself.
        batch: of its input; None for any.
        tokens: whether its output is that of all places, (n, 20, 4), instead of their mean.
        changes: arrays by name, instead of :func:`weights`.
    """
    values = {name: array for name, array in weights().items() if name in ("kernel", "bias")}
    values |= changes
    nodes: list[Any] = []

    def add(operator: str, output: str, *inputs: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    x = "pixels"
    if layout == "nhwc":
        add("Transpose", "planes", x, perm=[0, 3, 1, 2])
        x = "planes"
    if dtype == "uint8":
        values["mean"] = np.array(MEAN, np.float32).reshape(3, 1, 1)
        values["std"] = np.array(STD, np.float32).reshape(3, 1, 1)
        add("Cast", "float", x, to=TensorProto.FLOAT)
        add("Sub", "centered", "float", "mean")
        add("Div", "scaled", "centered", "std")
        x = "scaled"
    add("Conv", "conv", x, "kernel", "bias", strides=[2, 2], pads=[0, 0, 1, 1])
    values |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    add("Clip", "relu", "conv", "zero", "six")
    if tokens:
        values["shape"] = np.array([0, FEATURES, -1])
        add("Reshape", "flat", "relu", "shape")
        add("Transpose", "features", "flat", perm=[0, 2, 1])
    else:
        add("GlobalAveragePool", "features", "relu")
    size = [3, HEIGHT, WIDTH] if layout == "nchw" else [HEIGHT, WIDTH, 3]
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.UINT8
    source = helper.make_tensor_value_info("pixels", kind, [batch or "n", *size])
    shape = [batch or "n", *([20, FEATURES] if tokens else [FEATURES, 1, 1])]
    target = helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "tiny", [source], [target], constants)
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def onnx_bundle(
    layout: str = "nchw",
    dtype: str = "float32",
    batch: int | None = None,
    pooling: str = "none",
    **changes: Any,
) -> ModelBundle:
    """Return a bundle of :func:`onnx_network`, with other fields for ``changes``."""
    data = onnx_network(layout, dtype, batch, tokens=pooling != "none")
    scaled = {"preprocessing": Preprocessing(HEIGHT, WIDTH, (0,) * 3, (1,) * 3, STRETCH, 2)}
    network = Network("model.onnx", data, NetworkInput("pixels", layout, dtype, batch), "features")  # type: ignore[arg-type]
    return tiny_bundle(
        network, **{**(scaled if dtype == "uint8" else {}), "pooling": pooling, **changes}
    )


def tflite_bundle(**changes: Any) -> ModelBundle:
    """Return a bundle of the network for LiteRT."""
    source = NetworkInput("pixels", "nhwc", "float32", 1)
    network = Network("model.tflite", TFLITE, source, "Identity")
    return tiny_bundle(network, **changes)


def tiny_bundle(network: Network, **changes: Any) -> ModelBundle:
    """Return a bundle of a network with four features, and the digest of what it holds."""
    values = weights()
    fields: dict[str, Any] = {
        "name": "tiny",
        "architecture": "tiny-1",
        "digest": "sha256:" + "0" * 64,
        "native_dimension": FEATURES,
        "dimension": DIMENSION,
        "preprocessing": PREPROCESSING,
        "network": network,
        "reduction": Reduction(values["matrix"], values["offset"]),
        "provenance": "made by a test",
        "license": "Apache-2.0",
    }
    return with_own_digest(ModelBundle(**{**fields, **changes}))
