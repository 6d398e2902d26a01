"""Small networks with random weights, as other people export theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIDE, PATCH = 32, 8
TOKENS = (SIDE // PATCH) ** 2 + 1
_TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}


class _Graph:
    """An ONNX graph that grows node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._rng = np.random.default_rng(11)

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weights(self, *shape: int) -> str:
        """Add random weights and return their name."""
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        return self.constant(self._rng.normal(0, 1 / np.sqrt(fan_in), shape))

    def source(self, layout: str, dtype: str) -> str:
        """Return float (n, 3, side, side) from the input ``pixels``."""
        x = "pixels"
        if dtype == "uint8":
            x = self("Cast", x, to=TensorProto.FLOAT)
            x = self("Div", self("Sub", x, self.constant(127)), self.constant(128))
        return x if layout == "nchw" else self("Transpose", x, perm=[0, 3, 1, 2])

    def to_bytes(
        self,
        outputs: dict[str, list[int | str]],
        layout: str = "nchw",
        dtype: str = "float32",
        batch: int | str = "n",
        size: int | str = SIDE,
    ) -> bytes:
        """Return the model, whose outputs are the nodes of these names."""
        shape = [3, size, size] if layout == "nchw" else [size, size, 3]
        source = helper.make_tensor_value_info("pixels", _TYPES[dtype], [batch, *shape])
        targets = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "foreign", [source], targets, self.constants)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return bytes(model.SerializeToString())


def convolutional(
    features: int = 512,
    layout: str = "nchw",
    dtype: str = "float32",
    batch: int | str = "n",
    size: int | str = SIDE,
    maps: bool = False,
) -> bytes:
    """Return a convolutional network: (n, features, 1, 1), or with ``maps`` two outputs.

    The other is the feature maps before they are pooled, (n, features, 8, 8).
    """
    graph = _Graph()
    x = graph.source(layout, dtype)
    for inputs, outputs in ((3, 16), (16, features)):
        bias = graph.constant(np.zeros(outputs))
        weights = graph.weights(outputs, inputs, 3, 3)
        x = graph("Relu", graph("Conv", x, weights, bias, strides=[2, 2], pads=[1, 1, 1, 1]))
    pooled = graph("GlobalAveragePool", x)
    sides: list[int | str] = [8, 8] if size == SIDE else ["h", "w"]
    targets: dict[str, list[int | str]] = {pooled: [features, 1, 1]}
    if maps:
        targets[x] = [features, *sides]
    return graph.to_bytes(targets, layout, dtype, batch, size)


def transformer(
    features: int = 768, layout: str = "nchw", dtype: str = "float32", batch: int | str = "n"
) -> bytes:
    """Return a vision transformer of one layer, (n, tokens, features), the class token first."""
    graph = _Graph()
    x = graph.source(layout, dtype)
    x = graph("Conv", x, graph.weights(features, 3, PATCH, PATCH), strides=[PATCH, PATCH])
    x = graph("Reshape", x, graph.constant([0, features, -1], np.int64))
    x = graph("Transpose", x, perm=[0, 2, 1])
    # The class token: a row of zeros before the others, to which its own weights are added.
    x = graph("Pad", x, graph.constant([0, 1, 0, 0, 0, 0], np.int64))
    x = graph("Add", x, graph.weights(TOKENS, features))

    def normalized(x: str) -> str:
        one, zero = graph.constant(np.ones(features)), graph.constant(np.zeros(features))
        return graph("LayerNormalization", x, one, zero)

    y = normalized(x)
    query, key, value = (graph("MatMul", y, graph.weights(features, features)) for _ in range(3))
    scores = graph("MatMul", query, graph("Transpose", key, perm=[0, 2, 1]))
    scores = graph("Div", scores, graph.constant(np.sqrt(features)))
    x = graph("Add", x, graph("MatMul", graph("Softmax", scores), value))
    y = graph("MatMul", normalized(x), graph.weights(features, features))
    y = graph("Mul", y, graph("Sigmoid", y))
    x = normalized(graph("Add", x, graph("MatMul", y, graph.weights(features, features))))
    return graph.to_bytes({x: [TOKENS, features]}, layout, dtype, batch)


#: Configuration files that say how images are prepared for such networks.
CONFIGS: tuple[dict[str, Any], ...] = (
    {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 224},
    },
    {
        "model_cfg": {"vision_cfg": {"image_size": 224}},
        "preprocess_cfg": {"size": [224, 224], "mean": [0, 0, 0], "resize_mode": "longest"},
    },
    {"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "std": [1, 1, 1]}},
)
