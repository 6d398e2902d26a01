"""The columns of a shard: types of values, and blocks of values to members and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import gzip_members
from featureid.storage.gzip_members import Blocks, Buffer
from featureid.stored_json import PositiveSize

#: A block of one column: texts, or an array whose first axis is the row.
Values = Sequence[str] | npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
#: A member, and the length of its payload.
Packed = tuple[Buffer, int]

#: The number types of version 1, all little-endian.
NUMBER_TYPES: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}
#: Members at the end of a column of planes that are not byte planes: the halves of the last one.
HALVES = 2
_TEXT = "utf8"
#: The bits of a float's last byte that hardly vary: the high bits of the exponent. If the byte's
#: halves are swapped, the other bits are in their place.
_UPPER = np.uint8(0x78)
_MAX_AXES = 8
_MAX_VALUE = (1 << 31) - 1
_LENGTH = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """A column, as the header of a shard describes it.

    Attributes:
        name: unique in the shard.
        type: ``utf8``, ``uint8``, ``int32``, ``int64``, ``float16`` or ``float32``; readers skip
            other types, which later versions may write.
        shape: the shape of one value; () for a single number or text.
        encoding: ``plain``, or ``planes``: one member for byte k of all values, and two for the
            halves of the last byte (BYTE_STREAM_SPLIT with the last byte split again).
    """

    name: str
    type: str
    shape: tuple[PositiveSize, ...] = ()
    encoding: str = "plain"

    @property
    def known(self) -> bool:
        """Whether this version can read the column."""
        if self.type == _TEXT:
            return self.encoding == "plain" and not self.shape
        return self.type in NUMBER_TYPES and self.encoding in ("plain", "planes")

    @property
    def bounded(self) -> bool:
        """Whether the format allows values of this size, even if there are no rows."""
        return len(self.shape) <= _MAX_AXES and self.value_size <= _MAX_VALUE

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
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
        """Return the payload length of each member of a block; None for text, which varies."""
        if self.is_text:
            return None
        if self.encoding == "planes":
            numbers = rows * math.prod(self.shape)
            return [numbers] * (self.dtype.itemsize - 1) + [-(-numbers // 2)] * HALVES
        return [rows * self.value_size]


def to_members(spec: ColumnSpec, values: Values, *, smaller: bool = True) -> list[Packed]:
    """Return the members of one block of a column.

    Args:
        spec: the column.
        values: texts, or an array (rows, *shape) of the column's type.
        smaller: deflate the members that become smaller; otherwise store all.

    Raises:
        StorageError: the values do not fit the column.
    """
    make = gzip_members.deflate if smaller else gzip_members.store
    if spec.is_text:
        payload = _text_payload(spec.name, values)
        return [(make(payload), len(payload))]
    array = np.asarray(values)
    if array.shape[1:] != spec.shape or array.dtype != spec.dtype:
        raise StorageError(
            f"Column {spec.name} holds {spec.type} {spec.shape}; the values are "
            f"{array.dtype} {array.shape[1:]}"
        )
    array = np.ascontiguousarray(array, spec.dtype)
    if spec.encoding == "planes":
        return _plane_members(array, smaller=smaller)
    payload = array.tobytes()
    return [(make(payload), len(payload))]


def _plane_members(array: npt.NDArray[Any], *, smaller: bool) -> list[Packed]:
    """Return the members of byte planes.

    Only the last byte, with sign and exponent, is deflated: the others are close to random, and
    stored members bound what a reader has to allocate.
    """
    import cv2  # only here and below: reading keys needs no OpenCV

    frames = [gzip_members.StoredFrame(array.size) for _ in range(array.dtype.itemsize - 1)]
    top = np.empty(array.size, np.uint8)
    places = [*(frame.blocks for frame in frames), gzip_members.blocks_of(top.data)]
    # With vector instructions, several times as fast as NumPy.
    for pixels, planes in _images(array, places):
        cv2.split(pixels, planes)
    packed: list[Packed] = [(frame.seal(), array.size) for frame in frames]
    lower, upper = _cut(top)
    # All five bits of a float16's exponent vary. The high ones of a float32's eight form long runs,
    # which inflate twice as fast as strings as they do as single bytes.
    runs = array.dtype.itemsize > 2
    for half, huffman in ((lower.data, True), (upper.data, not runs)):
        make = partial(gzip_members.deflate, huffman=huffman) if smaller else gzip_members.store
        packed.append((make(half), len(half)))
    return packed


def from_payloads(spec: ColumnSpec, rows: int, payloads: Sequence[Buffer]) -> Values:
    """Return the values of one block of a column from its payloads.

    Raises:
        ValueError: the payload of a text column contradicts itself.
    """
    if spec.is_text:
        return _texts(payloads[0], rows)
    if spec.encoding == "plain":
        return np.frombuffer(payloads[0], spec.dtype).reshape(rows, *spec.shape)
    values = np.empty((rows, *spec.shape), spec.dtype)
    *low, lower, upper = payloads
    merge_planes([gzip_members.blocks_of(payload) for payload in low], lower, upper, values)
    return values


def merge_planes(
    low: Sequence[Blocks], lower: Buffer, upper: Buffer, out: npt.NDArray[Any]
) -> None:
    """Merge byte planes into ``out``, a contiguous array of the column's own type.

    Args:
        low: all planes but the last.
        lower: the lower halves of the last plane.
        upper: the upper halves of the last plane.
        out: as many values as a plane has bytes.
    """
    import cv2

    top = _unite(lower, upper, out.size)
    for pixels, planes in _images(out, [*low, gzip_members.blocks_of(top.data)]):
        cv2.merge(planes, pixels)


def _images(
    array: npt.NDArray[Any], planes: Sequence[Blocks]
) -> Iterator[tuple[Bytes, list[Bytes]]]:
    """Yield an array as images for OpenCV, each with its planes: full deflate blocks, and the rest.

    An image has one row per deflate block; each value is a pixel, and each of its bytes a channel.
    """
    values = array.view(np.uint8).reshape(-1, array.dtype.itemsize)
    start = 0
    for blocks in zip(*planes, strict=True):
        end = start + blocks[0].size
        yield values[start:end].reshape(*blocks[0].shape, -1), list(blocks)
        start = end


def _cut(top: Bytes) -> tuple[Bytes, Bytes]:
    """Return the lower and the upper halves of bytes, see ``docs/format.md``."""
    half = -(-len(top) // 2)
    second = np.zeros(half, np.uint8)
    second[: len(top) - half] = top[half:]
    return _exchanged(top[:half], _swapped(second))


def _unite(lower: Buffer, upper: Buffer, count: int) -> Bytes:
    """Return the ``count`` bytes that :func:`_cut` has split into halves."""
    first, second = _exchanged(np.frombuffer(lower, np.uint8), np.frombuffer(upper, np.uint8))
    return np.concatenate([first, _swapped(second)])[:count]


def _exchanged(one: Bytes, other: Bytes) -> tuple[Bytes, Bytes]:
    """Return two arrays of bytes with their bits in _UPPER exchanged."""
    differing = one ^ other
    differing &= _UPPER
    return one ^ differing, other ^ differing


def _swapped(numbers: Bytes) -> Bytes:
    """Return bytes with their high and low four bits swapped."""
    swapped: Bytes = numbers * np.uint8(16)  # ten times as fast as a shift in NumPy
    swapped |= numbers >> np.uint8(4)
    return swapped


def take_rows(values: Values, rows: npt.NDArray[np.intp]) -> Values:
    """Return the values of some rows, in the order of ``rows``."""
    if isinstance(values, np.ndarray):
        taken: npt.NDArray[Any] = values[rows]
        return taken
    return [values[row] for row in rows.tolist()]


def _text_payload(name: str, values: Values) -> bytes:
    whole = "".join(values)
    try:
        body = whole.encode()
    except UnicodeEncodeError as error:
        bad = whole[error.start : error.end]
        raise StorageError(f"Column {name}: {bad!r} in a text is not valid Unicode") from error
    # If all is ASCII, texts and bytes have the same length: twice as fast as encoding each text.
    sized = values if len(body) == len(whole) else [str(value).encode() for value in values]
    return np.fromiter(map(len, sized), _LENGTH, len(values)).tobytes() + body


def _texts(payload: Buffer, rows: int) -> list[str]:
    view = memoryview(payload)
    head = _LENGTH.itemsize * rows
    if len(view) < head:
        raise ValueError("the payload is shorter than the lengths of its texts")
    ends = np.cumsum(np.frombuffer(view[:head], _LENGTH), dtype=np.uint64).tolist()
    body = bytes(view[head:])
    if (ends[-1] if ends else 0) != len(body):
        raise ValueError("the lengths of the texts do not add up")
    starts = [0, *ends][:-1]
    try:
        if body.isascii():
            whole = body.decode("ascii")
            return [whole[start:end] for start, end in zip(starts, ends, strict=True)]
        return [body[start:end].decode() for start, end in zip(starts, ends, strict=True)]
    except UnicodeDecodeError as error:
        raise ValueError(f"a text is not UTF-8 ({error.reason})") from error
