"""Arrow arrays of other programs, checked, as the values of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featureid.storage.columns import ColumnSpec, Values

if TYPE_CHECKING:
    import pyarrow


class RowError(ValueError):
    """A row of an array cannot be used; the message continues a sentence about its value.

    Attributes:
        row: its number, from 0.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


def is_text(kind: pyarrow.DataType) -> bool:
    """Return whether values are texts."""
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or (pa.types.is_dictionary(kind) and is_text(kind.value_type))
    )


def is_key(kind: pyarrow.DataType) -> bool:
    """Return whether values can be keys: texts or integers."""
    import pyarrow as pa

    return is_text(kind) or bool(pa.types.is_integer(kind))


def is_vector(kind: pyarrow.DataType) -> bool:
    """Return whether values are lists of floats."""
    import pyarrow as pa

    return _is_list(kind) and bool(pa.types.is_floating(kind.value_type))


def fits(kind: pyarrow.DataType, spec: ColumnSpec) -> bool:
    """Return whether values may fit a column, as far as their type shows."""
    import pyarrow as pa

    if spec.is_text:
        return is_text(kind)
    if spec.type == "uint8" and _is_binary(kind):
        return len(spec.shape) == 1
    for _ in spec.shape:
        if not _is_list(kind):
            return False
        kind = kind.value_type
    is_float = spec.dtype.kind == "f"
    return bool(pa.types.is_floating(kind) if is_float else pa.types.is_integer(kind))


def key_texts(array: pyarrow.Array) -> list[str]:
    """Return texts, and integers in decimal.

    Raises:
        RowError: a value is null.
    """
    import pyarrow as pa

    array = _plain(array)
    _refuse_nulls(array)
    if not pa.types.is_integer(array.type):
        return _texts(array)
    return list(map(str, array.to_pylist()))


def vector_matrix(array: pyarrow.Array, dimension: int | None = None) -> npt.NDArray[Any]:
    """Return lists of floats as a matrix (rows, dimension) of their own type.

    Args:
        array: the lists.
        dimension: how many numbers each must have; None for as many as the first one.

    Raises:
        RowError: a list, or a number in it, is null, or a list has another length.
    """
    _refuse_nulls(array)
    if dimension is None:
        dimension = len(array[0]) if len(array) else 0
        if len(array) and not dimension:
            raise RowError(0, "is an empty list")
    return _numbers(array, (dimension,))


def column_values(array: pyarrow.Array, spec: ColumnSpec, *, nan: bool = False) -> Values:
    """Return the values of a column.

    Args:
        array: the values.
        spec: what they must fit.
        nan: whether a float may be missing, which is null or NaN and becomes NaN.

    Raises:
        RowError: a value is null, or does not fit the column.
    """
    array = _plain(array)
    if spec.is_text:
        _refuse_nulls(array)
        return _texts(array)
    if _is_binary(array.type):
        _refuse_nulls(array)
        return _bytes(array, spec.shape[0])
    numbers = _numbers(array, spec.shape, nan=nan)
    if spec.dtype.kind != "f":
        limits = np.iinfo(spec.dtype)
        refuse_rows((numbers < limits.min) | (numbers > limits.max), f"does not fit {spec.type}")
    with np.errstate(over="ignore"):  # becomes infinite
        return numbers.astype(spec.dtype, copy=False)


def refuse_rows(bad: npt.NDArray[np.bool_], reason: str) -> None:
    """Refuse the first row for which ``bad`` (rows, …) is true.

    Raises:
        RowError: there is one.
    """
    if bad.any():
        raise RowError(int(np.argmax(bad.reshape(len(bad), -1).any(axis=1))), reason)


def _numbers(array: pyarrow.Array, shape: Sequence[int], *, nan: bool = False) -> npt.NDArray[Any]:
    """Return lists of lists of … numbers as an array (rows, *shape); nulls are NaN, or refused."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, per_row = len(array), 1
    for size in shape:
        _refuse_nulls(array, per_row)
        if pa.types.is_fixed_size_list(array.type):
            lengths = np.full(len(array), array.type.list_size)
        else:
            lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(lengths != size)
        if odd.size:
            reason = f"has {lengths[odd[0]]} values where {size} are expected"
            raise RowError(int(odd[0]) // per_row, reason)
        array, per_row = array.flatten(), per_row * size
    if not nan:
        _refuse_nulls(array, per_row)
    numbers: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return numbers.reshape(rows, *shape)


def _refuse_nulls(array: pyarrow.Array, per_row: int = 1) -> None:
    if array.null_count:
        place = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise RowError(place // per_row, "has a null")


def _bytes(array: pyarrow.Array, size: int) -> npt.NDArray[np.uint8]:
    values = array.to_pylist()
    for row, value in enumerate(values):
        if len(value) != size:
            raise RowError(row, f"has {len(value)} bytes, not {size}")
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, size)


def _texts(array: pyarrow.Array) -> list[str]:
    texts: list[str] = array.to_pylist()
    return texts


def _plain(array: pyarrow.Array) -> pyarrow.Array:
    import pyarrow as pa

    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_list(kind: pyarrow.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _is_binary(kind: pyarrow.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
