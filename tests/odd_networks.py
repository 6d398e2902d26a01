"""Networks that must not become models, or not without being told more."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def onnx_of(
    nodes: list[Any],
    output: str = "y",
    constants: dict[str, Any] | None = None,
    inputs: dict[str, list[int | str]] | None = None,
    domain: str = "",
) -> bytes:
    """Return an ONNX model of nodes, of images of 8 x 8 pixels unless ``inputs`` say otherwise."""
    sources: dict[str, list[int | str]] = {"x": ["n", 3, 8, 8]} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in sources.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opset = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def ints(*values: int) -> np.ndarray:
    """Return a constant of 64-bit integers, as shapes are."""
    return np.array(values, np.int64)


def node(operator: str, *names: str, **attributes: Any) -> Any:
    """Return a node; the last name is its output."""
    return helper.make_node(operator, names[:-1], names[-1:], **attributes)


MEANS = node("ReduceMean", "x", "m", axes=[2, 3], keepdims=0)  # (n, 3)


def crashing() -> bytes:
    """A network of standard operators that ends its process on x86: -2**31 / -1 in integers."""
    nodes = [
        MEANS,
        node("Cast", "m", "i", to=TensorProto.INT32),
        node("Sub", "i", "i", "zero"),
        node("Add", "zero", "lowest", "a"),
        node("Sub", "zero", "one", "b"),
        node("Div", "a", "b", "d"),
        node("Cast", "d", "y", to=TensorProto.FLOAT),
    ]
    return onnx_of(
        nodes, constants={"lowest": np.array([-(2**31)], np.int32), "one": np.array([1], np.int32)}
    )


def endless() -> bytes:
    """A network that computes for minutes: a long chain of large matrix products."""
    nodes = [node("Expand", "one", "shape", "p0")]
    nodes += [node("MatMul", f"p{i}", f"p{i}", f"p{i + 1}") for i in range(50)]
    # What depends on the image, so that nothing is computed while it is loaded.
    nodes[0] = node("Reshape", "x", "row", "r")
    nodes[1:1] = [node("Slice", "r", "from", "to", "axis", "s"), node("Expand", "s", "shape", "p0")]
    nodes += [node("ReduceMean", "p50", "q", axes=[1, 2], keepdims=0), node("Add", "m", "q", "y")]
    constants = {
        "row": ints(0, 1, -1), "from": ints(0), "to": ints(1),
        "axis": ints(2), "shape": ints(1, 4000, 4000),
    }  # fmt: skip
    return onnx_of([MEANS, *nodes], constants=constants)


def hungry() -> bytes:
    """A network that needs 40 GB."""
    nodes = [node("Reshape", "x", "row", "r"), node("Expand", "r", "shape", "e")]
    nodes += [node("ReduceMean", "e", "y", axes=[1, 2], keepdims=0)]
    constants = {"row": ints(0, 1, -1), "shape": ints(1, 50_000_000, 192)}
    return onnx_of(nodes, constants=constants)


def external() -> bytes:
    """A network with a weight in another file."""
    model = helper.make_model(
        helper.make_graph(
            [MEANS, node("Add", "m", "w", "y")],
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])],
        )
    )
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return bytes(model.SerializeToString())


def branching() -> bytes:
    """A network with a branch."""
    then = helper.make_graph([node("Identity", "m", "t")], "then", [], [
        helper.make_tensor_value_info("t", TensorProto.FLOAT, None)])  # fmt: skip
    branch = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=then)
    return onnx_of([MEANS, branch], constants={"c": np.array(True)})


def without_an_input(litert: bytes, operator: int = 0, place: int = 0) -> bytes:
    """Return a LiteRT network of which an operator lacks an input: its number is -1.

    That is legal for inputs that are optional; LiteRT does not look which ones are.

    Args:
        litert: the network, a FlatBuffer of TensorFlow Lite's schema.
        operator: number of the operator.
        place: of the input among its inputs.
    """
    changed = bytearray(litert)

    def follow(at: int) -> int:
        return at + int(struct.unpack_from("<I", litert, at)[0])

    def field(table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", litert, table)[0]
        return table + int(struct.unpack_from("<H", litert, vtable + 4 + 2 * number)[0])

    def element(vector: int, number: int) -> int:
        return vector + 4 + 4 * number

    graph = follow(element(follow(field(follow(0), 2)), 0))
    node = follow(element(follow(field(graph, 3)), operator))
    struct.pack_into("<i", changed, element(follow(field(node, 1)), place), -1)
    return bytes(changed)
