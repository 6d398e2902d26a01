"""Write convolutional networks as ONNX, from their weights.

The graph is fixed by the weights and the code here, so the same weights give the same bytes with
any one version of the ``onnx`` package, which is imported only when a network is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 17
_IR_VERSION = 8  # the one that came with opset 17; newer ones shut out older runtimes

Weights = npt.NDArray[np.float32]


class OnnxGraph:
    """A network that grows node by node, over float32 (n, channels, height, width).

    Its input ``pixels`` is float32 (n, 3, height, width).  Every method that adds a node takes the
    names of its inputs and returns that of its output.

    Attributes:
        source: the name of the pixels, for the first node.

    Args:
        height: of the input.
        width: of the input.
    """

    def __init__(self, height: int, width: int) -> None:
        self.source = "pixels"
        self._declared_input: tuple[type[np.generic], list[int | str]] = (
            np.float32,
            ["n", 3, height, width],
        )
        self._nodes: list[Any] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}

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
        """Convolve ``x``.

        Args:
            x: the input.
            name: of the node.
            kernel: (channels out, channels in / groups, height, width).
            bias: (channels out,).
            stride: in both directions.
            pads: rows of zeros above and below, and as many columns on the left and right.
            groups: into which the channels are split.
        """
        inputs = (x, self.constant(f"{name}/kernel", kernel), self.constant(f"{name}/bias", bias))
        return self.node("Conv", name, *inputs, **convolution_attributes(stride, pads, groups))

    def relu(self, x: str, name: str, ceiling: float | None = None) -> str:
        """Raise what is negative to 0 and, with ``ceiling``, lower what is above that."""
        if ceiling is None:
            return self.node("Relu", name, x)
        bounds = (self.constant(f"{name}/{end:g}", _scalar(end)) for end in (0.0, ceiling))
        return self.node("Clip", name, x, *bounds)

    def add(self, x: str, y: str, name: str) -> str:
        """Add two tensors of one shape."""
        return self.node("Add", name, x, y)

    def max_pool(self, x: str, name: str, side: int, stride: int) -> str:
        """Take the largest value of every square, without padding."""
        return self.node("MaxPool", name, x, kernel_shape=[side] * 2, strides=[stride] * 2)

    def average_pool(self, x: str, name: str, side: int, channels: int) -> str:
        """Take the mean of every square in each of the channels, without padding or overlap."""
        return self.node("AveragePool", name, x, kernel_shape=[side] * 2, strides=[side] * 2)

    def pad(self, x: str, name: str, *, channels: int = 0, sides: int = 0) -> str:
        """Append channels of zeros, or rows below and columns on the right."""
        pads = np.array([0, 0, 0, 0, 0, channels, sides, sides], np.int64)
        return self.node("Pad", name, x, self.constant(f"{name}/pads", pads))

    def features(self, x: str) -> str:
        """Take the mean of every channel as the network's output, ``features``."""
        return self.node("Flatten", "features", self.node("GlobalAveragePool", "pool", x))

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Apply any operator with one output."""
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant, or find it again by its name."""
        self._constants.setdefault(name, values)
        return name

    def to_bytes(self, name: str, features: int) -> bytes:
        """Return the file of the network.

        Args:
            name: of the network.
            features: columns of the output of the last node, float32 (n, features).
        """
        from onnx import checker, helper, numpy_helper

        def declared(of: str, dtype: type[np.generic], shape: Sequence[int | str]) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            return helper.make_tensor_value_info(of, kind, shape)

        graph = helper.make_graph(
            self._nodes,
            name,
            [declared("pixels", *self._declared_input)],
            [declared(self._nodes[-1].output[0], np.float32, ["n", features])],
            [numpy_helper.from_array(values, of) for of, values in self._constants.items()],
        )
        model = helper.make_model(
            graph,
            producer_name="featureid",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
        )
        checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def convolution_attributes(stride: int, pads: Sequence[int], groups: int) -> dict[str, Any]:
    """Return the attributes of a ``Conv`` from the arguments of :meth:`OnnxGraph.convolution`."""
    before, after = pads
    return {
        "strides": [stride] * 2,
        "pads": [before, before, after, after],
        "group": groups,
    }


def _scalar(value: float) -> Weights:
    return np.array(value, np.float32)
