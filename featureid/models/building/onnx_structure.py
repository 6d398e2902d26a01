"""What an ONNX file holds, read without running it, and whether it may be run at all."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from featureid.errors import ModelError
from featureid.stored_json import canonical_json

# Protocol buffers cannot be larger.
MAX_BYTES = (1 << 31) - 1
_MAX_NODES = 100_000
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network.

    Attributes:
        name: its name.
        dtype: of its elements, such as ``float32``.
        shape: its lengths, None where one is left open; None as a whole if it is not declared.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = (
            "?"
            if self.shape is None
            else ", ".join("n" if n is None else str(n) for n in self.shape)
        )
        return f"{self.name} ({self.dtype} {sizes})"


@dataclass(frozen=True)
class Structure:
    """What is known of a network before it is run.

    Attributes:
        inputs: what it needs to be given.
        outputs: what it returns.
        parameters: number of its weights; None if that is not known.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    parameters: int | None


def read_structure(data: bytes) -> Structure:
    """Return what an ONNX file holds, if all of it is in the file and of the ONNX standard.

    Args:
        data: the whole file.

    Raises:
        ModelError: it is not an ONNX file; or it refers to other files, or has functions, nested
            graphs, or operators that the ONNX standard does not define.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_BYTES:
        raise ModelError(f"it has {len(data)} bytes; an ONNX file has up to {MAX_BYTES}")
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"it is not an ONNX file: {error}") from error
    graph = model.graph
    if not graph.node:
        raise ModelError("it is not an ONNX file, or has no operators")
    if len(graph.node) > _MAX_NODES:
        raise ModelError(f"it has {len(graph.node)} operators; up to {_MAX_NODES} are accepted")
    if model.functions:
        raise ModelError(
            f"it defines functions ({_some(f.name for f in model.functions)}), which are not "
            "accepted; export it with inlined functions"
        )
    for node in graph.node:
        _check_node(node)
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(
                f"its weight {tensor.name!r} is in another file; save the model as one file "
                "(onnx.save with save_as_external_data=False)"
            )
    given = {tensor.name for tensor in graph.initializer}
    return Structure(
        inputs=tuple(_declared(value) for value in graph.input if value.name not in given),
        outputs=tuple(map(_declared, graph.output)),
        parameters=sum(math.prod(tensor.dims) for tensor in graph.initializer),
    )


def network_sha256(data: bytes) -> str:
    """Return the SHA-256 of what an ONNX file computes, however it has been written.

    It covers the operators in their order, their attributes and version, where their inputs come
    from, all constants in use, and what the network takes and returns; not the names within, nor
    what is said for people, nor how protocol buffers write it all.

    Args:
        data: a file that :func:`read_structure` accepts.

    Raises:
        ModelError: a name is missing or repeated, or an attribute is of a kind that no known
            network has.
    """
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(data)
    graph = model.graph
    origins: dict[str, Any] = {"": None}  # an optional input that is left out

    def define(name: str, origin: Any) -> None:
        if name in origins:
            raise ModelError(f"it defines {name!r} twice")
        origins[name] = origin

    def origin(name: str) -> Any:
        if name not in origins:
            raise ModelError(f"it uses {name!r} before it is computed")
        return origins[name]

    for tensor in graph.initializer:
        define(tensor.name, _plain(tensor))
    for value in graph.input:
        define(value.name, ["input", *_named(value)])
    nodes = []
    for number, node in enumerate(graph.node):
        attributes = [[a.name, _plain(helper.get_attribute_value(a))] for a in node.attribute]
        inputs = [origin(name) for name in node.input]
        nodes.append([node.domain, node.op_type, inputs, sorted(attributes, key=_name)])
        for place, name in enumerate(filter(None, node.output)):
            define(name, ["node", number, place])
    described = {
        "opset": sorted([opset.domain, opset.version] for opset in model.opset_import),
        "nodes": nodes,
        "outputs": [[*_named(value), origin(value.name)] for value in graph.output],
    }
    return hashlib.sha256(canonical_json(described)).hexdigest()


def _name(attribute: list[Any]) -> str:
    return str(attribute[0])


def _named(value: Any) -> list[Any]:
    kind = value.type.tensor_type
    return [value.name, kind.elem_type, [n.dim_param or n.dim_value for n in kind.shape.dim]]


def _plain(value: Any) -> Any:
    """Return the value of an attribute, or a constant, as JSON."""
    from onnx import TensorProto, numpy_helper

    if isinstance(value, TensorProto):
        array = numpy_helper.to_array(value)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return [value.data_type, list(array.shape), hashlib.sha256(little.tobytes()).hexdigest()]
    if isinstance(value, bytes | float):
        return value.hex()
    if isinstance(value, int):
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise ModelError(f"it has an attribute of the kind {type(value).__name__}")


def _check_node(node: Any) -> None:
    from onnx import AttributeProto, defs

    # What is not UTF-8 is given as bytes.
    if not isinstance(node.op_type, str):
        raise ModelError(f"it has an operator named {node.op_type!r}, which is not UTF-8")
    if node.domain not in _STANDARD:
        raise ModelError(
            f"its operator {node.op_type} is of {node.domain}, not of the ONNX standard; export it "
            "without operators of a runtime (no fusion or quantization by a runtime's own tools)"
        )
    if not defs.has(node.op_type):
        raise ModelError(f"its operator {node.op_type} is not in the ONNX standard of this onnx")
    nested = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    if any(item.type in nested or item.HasField("g") or item.graphs for item in node.attribute):
        raise ModelError(
            f"its operator {node.op_type} holds a graph of its own (a branch or loop), which is "
            "not accepted; export it for one fixed way through the network"
        )


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield all constants of a graph, those of its operators included."""
    yield from graph.initializer
    sparse = [*graph.sparse_initializer]
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t
            yield from item.tensors
            sparse += [item.sparse_tensor] if item.HasField("sparse_tensor") else []
            sparse += item.sparse_tensors
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _declared(value: Any) -> Tensor:
    from onnx import TensorProto, helper

    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(f"its input or output {value.name!r} is not a tensor")
    kind = value.type.tensor_type
    known = kind.elem_type in TensorProto.DataType.values()
    if not known or kind.elem_type == TensorProto.UNDEFINED:
        raise ModelError(f"its input or output {value.name!r} has no known type")
    dtype = (
        "string"
        if kind.elem_type == TensorProto.STRING
        else str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    )
    if not kind.HasField("shape"):
        return Tensor(value.name, dtype, None)
    lengths = tuple(
        n.dim_value if n.HasField("dim_value") and n.dim_value > 0 else None for n in kind.shape.dim
    )
    return Tensor(value.name, dtype, lengths)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
