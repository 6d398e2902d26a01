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

    Every method that adds a node takes the names of its inputs and returns that of its output.
    """

    def __init__(self) -> None:
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
        before, after = pads
        return self.node(
            "Conv",
            name,
            *inputs,
            strides=[stride] * 2,
            pads=[before, before, after, after],
            group=groups,
        )

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Apply any operator with one output."""
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant, or find it again by its name."""
        self._constants.setdefault(name, values)
        return name

    def to_bytes(self, name: str, source: str, height: int, width: int, features: int) -> bytes:
        """Return the file of the network.

        Args:
            name: of the network.
            source: the input, float32 (n, 3, height, width).
            height: its rows.
            width: its columns.
            features: columns of the output of the last node, float32 (n, features).
        """
        from onnx import TensorProto, checker, helper, numpy_helper

        def declared(of: str, shape: Sequence[int | str]) -> Any:
            return helper.make_tensor_value_info(of, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self._nodes,
            name,
            [declared(source, ["n", 3, height, width])],
            [declared(self._nodes[-1].output[0], ["n", features])],
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
