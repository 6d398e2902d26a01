"""The columns of a shard: what a value is, and how a block of values becomes member payloads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import gzip_members
from featureid.storage.gzip_members import Buffer

#: A block of one column: texts, or an array whose first axis is the row.
Values = Sequence[str] | npt.NDArray[Any]

#: The number types of version 1, all little-endian.
NUMBER_TYPES: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}
_TEXT = "utf8"
_MAX_AXES = 8
_MAX_VALUE = (1 << 31) - 1
_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column as the shard's header describes it.

    Attributes:
        name: unique in the shard.
        type: ``utf8``, ``uint8``, ``int32``, ``int64``, ``float16`` or ``float32``; a shard of a
            later writer may have others, which readers skip.
        shape: the shape of one value; () is a single number or text.
        encoding: ``plain``, or ``planes``: byte k of every value together, each a member.
    """

    name: str
    type: str
    shape: tuple[int, ...] = ()
    encoding: str = "plain"

    @property
    def known(self) -> bool:
        """Whether this version can read the column."""
        if self.type == _TEXT:
            return self.encoding == "plain" and not self.shape
        return self.type in NUMBER_TYPES and self.encoding in ("plain", "planes")

    @property
    def bounded(self) -> bool:
        """Whether a value is of a size that the format allows, also where no row backs it."""
        return len(self.shape) <= _MAX_AXES and self.value_size <= _MAX_VALUE

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.type == _TEXT

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian NumPy type of the numbers."""
        return NUMBER_TYPES[self.type]

    @property
    def value_size(self) -> int:
        """Bytes of one row's numbers."""
        return self.dtype.itemsize * math.prod(self.shape)

    def raw_lengths(self, rows: int) -> list[int] | None:
        """Return the payload length of each member of a block; None for text, where it varies."""
        if self.is_text:
            return None
        if self.encoding == "planes":
            return [rows * math.prod(self.shape)] * self.dtype.itemsize
        return [rows * self.value_size]


def to_payloads(spec: ColumnSpec, values: Values) -> list[Buffer]:
    """Turn the values of one block into the payloads of its members.

    Raises:
        StorageError: a value does not fit the column.
    """
    if spec.is_text:
        return [_text_payload(spec.name, values)]
    array = np.asarray(values)
    if array.shape[1:] != spec.shape or array.dtype != spec.dtype:
        raise StorageError(
            f"Column {spec.name} holds {spec.type} {spec.shape}; the values are "
            f"{array.dtype} {array.shape[1:]}"
        )
    array = np.ascontiguousarray(array, spec.dtype)
    if spec.encoding == "plain":
        return [array.tobytes()]
    return [plane.data for plane in _split_planes(array)]


def pack(spec: ColumnSpec, payloads: list[Buffer], *, smaller: bool = True) -> list[bytes]:
    """Make the members of one block of a column.

    Of byte planes only the last, with sign and exponent, is deflated: the others are as good as
    random, and stored ones bound what a reader has to allocate.

    Args:
        spec: the column.
        payloads: from :func:`to_payloads`.
        smaller: deflate other columns where that makes them smaller; else store them.
    """
    if spec.encoding == "planes":
        *low, top = payloads
        return [*map(gzip_members.store, low), gzip_members.deflate(top, huffman=True)]
    make = gzip_members.deflate if smaller else gzip_members.store
    return [make(payload) for payload in payloads]


def from_payloads(spec: ColumnSpec, rows: int, payloads: Sequence[Buffer]) -> Values:
    """Turn the payloads of one block back into values.

    Raises:
        ValueError: a text column's payload contradicts itself.
    """
    if spec.is_text:
        return _texts(payloads[0], rows)
    if spec.encoding == "plain":
        return np.frombuffer(payloads[0], spec.dtype).reshape(rows, *spec.shape)
    values = np.empty((rows, *spec.shape), spec.dtype)
    merge_planes([gzip_members.pieces(payload) for payload in payloads], values)
    return values


def merge_planes(planes: Sequence[Sequence[Buffer]], out: npt.NDArray[Any]) -> None:
    """Put byte planes back together in ``out``, a contiguous array of the column's own type.

    Args:
        planes: each plane in pieces, all planes in pieces of the same lengths.
        out: as many values as the pieces of a plane have bytes.
    """
    import cv2  # only here and below: who reads keys alone needs no OpenCV

    cells, start = _cells(out), 0
    for pieces in zip(*planes, strict=True):
        end = start + len(pieces[0])
        # OpenCV's vector instructions are five times as fast as what NumPy has for this.
        cv2.merge([np.frombuffer(piece, np.uint8) for piece in pieces], cells[start:end])
        start = end


def _split_planes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return byte k of every value of a contiguous array in row k."""
    import cv2

    planes = np.empty((array.dtype.itemsize, array.size), np.uint8)
    cv2.split(_cells(array), list(planes[:, :, np.newaxis]))
    return planes


def _cells(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """View an array as OpenCV's image of one column: a value a pixel, a byte a channel."""
    return array.view(np.uint8).reshape(-1, 1, array.dtype.itemsize)


def _text_payload(name: str, values: Values) -> bytes:
    whole = "".join(values)
    try:
        body = whole.encode()
    except UnicodeEncodeError as error:
        bad = whole[error.start : error.end]
        raise StorageError(f"Column {name}: a text has {bad!r} in it, no valid Unicode") from error
    # Where all is ASCII, a text is as long as its bytes: twice as fast as encoding each.
    sized = values if len(body) == len(whole) else [str(value).encode() for value in values]
    return np.fromiter(map(len, sized), _LENGTH, len(values)).tobytes() + body


def _texts(payload: Buffer, rows: int) -> list[str]:
    view = memoryview(payload)
    head = _LENGTH.itemsize * rows
    if len(view) < head:
        raise ValueError("the text column is shorter than its lengths")
    ends = np.cumsum(np.frombuffer(view[:head], _LENGTH), dtype=np.uint64).tolist()
    body = bytes(view[head:])
    if (ends[-1] if ends else 0) != len(body):
        raise ValueError("the lengths of the text column do not add up")
    starts = [0, *ends][:-1]
    try:
        if body.isascii():
            whole = body.decode("ascii")
            return [whole[start:end] for start, end in zip(starts, ends, strict=True)]
        return [body[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    except UnicodeDecodeError as error:
        raise ValueError(f"a text is not UTF-8 ({error.reason})") from error
