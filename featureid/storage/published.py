"""The published layouts of feature IDs, byte for byte, little-endian on every machine.

=====================  ===========================================================================
one vector             its numbers, float32 or float16: 512 bytes for 128 float32
compressed             the same, gzipped
one with metadata      uint32 count of numbers, ``float32`` or ``float16``, the numbers
many                   uint32 count of vectors, then for each: uint32 length in bytes, its numbers
=====================  ===========================================================================

None of them has a checksum, a key or the model in it; a file of many has not even its number
type. So lengths are all that can be checked, and all of them are, before memory is taken.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import columns, gzip_members, layout
from featureid.storage.gzip_members import Buffer
from featureid.storage.records import DTYPES

#: Numbers in a published vector.
DIMENSION = 128

_COUNT = struct.Struct("<I")
_MOST = 0xFFFF_FFFF
_NAME_BYTES = 7
#: What a small file may inflate to whatever its size.
_SMALL = 1 << 20
#: Bytes that are compressed together.
_CHUNK = 1 << 22

Vectors = npt.NDArray[Any]


def embedding_to_binary(embedding: npt.ArrayLike, dtype: str = "float32") -> bytes:
    """Return one vector as its bare numbers.

    Args:
        embedding: (dimension,).
        dtype: ``float32`` or ``float16``.

    Raises:
        StorageError: it is no vector of finite numbers that the type can hold.
    """
    return _numbers(embedding, dtype, 1).tobytes()


def binary_to_embedding(
    data: Buffer, dtype: str = "float32", dimension: int = DIMENSION
) -> Vectors:
    """Return the vector (dimension,) of bare numbers, in ``dtype``.

    Raises:
        CorruptFileError: there are more or fewer bytes.
    """
    kind, size = _kind(dtype), memoryview(data).nbytes
    if size != dimension * kind.itemsize:
        raise CorruptFileError(
            f"{size} bytes are not {dimension} numbers of {dtype}, {dimension * kind.itemsize} "
            "bytes; was the vector cut short, or is it of another length or type?"
        )
    vector: Vectors = np.frombuffer(data, kind).copy()
    return vector


def compress_binary(data: Buffer) -> bytes:
    """Return the bytes as a gzip file, the same on every call.

    It never inflates to more than 8 times its size, so that readers may refuse what does.
    """
    view = memoryview(data).cast("B")
    chunks = (view[start : start + _CHUNK] for start in range(0, max(1, len(view)), _CHUNK))
    return b"".join(layout.pack_text(bytes(chunk)) for chunk in chunks)


def decompress_binary(data: Buffer) -> bytes:
    """Return what a gzip file of feature IDs holds.

    Raises:
        CorruptFileError: it is damaged, cut short, or inflates to more than 8 times its size and
            1 MiB, which no feature IDs do.
    """
    most = layout.MAX_RATIO * memoryview(data).nbytes + _SMALL
    try:
        return gzip_members.gunzip(data, most)
    except ValueError as error:
        raise CorruptFileError(f"the gzip file of feature IDs is damaged: {error}") from error


def embedding_with_metadata(embedding: npt.ArrayLike, dtype: str = "float32") -> bytes:
    """Return one vector with its metadata: count of numbers, name of their type, the numbers.

    Raises:
        StorageError: as in :func:`embedding_to_binary`.
    """
    numbers = _numbers(embedding, dtype, 1)
    return _COUNT.pack(numbers.size) + dtype.encode("ascii") + numbers.tobytes()


def read_binary_embedding(data: Buffer) -> Vectors:
    """Return the vector of :func:`embedding_with_metadata`, in the type that the bytes name.

    Raises:
        CorruptFileError: the bytes are cut short, too many, or name another type.
    """
    view = memoryview(data).cast("B")
    head = _COUNT.size + _NAME_BYTES
    if len(view) < head:
        raise CorruptFileError(f"{len(view)} bytes are too few for the {head} of the metadata")
    name = bytes(view[_COUNT.size : head]).decode("ascii", "replace")
    if name not in DTYPES:
        raise CorruptFileError(f"the metadata names the type {name!r}, not {' or '.join(DTYPES)}")
    return binary_to_embedding(view[head:], name, _COUNT.unpack_from(view)[0])


def write_multiple_embeddings(embeddings: npt.ArrayLike, dtype: str = "float32") -> bytes:
    """Return many vectors: their count, then each with its length in bytes.

    Args:
        embeddings: (count, dimension).
        dtype: ``float32`` or ``float16``.

    Raises:
        StorageError: as in :func:`embedding_to_binary`, or there are 2^32 vectors or more.
    """
    matrix = _numbers(embeddings, dtype, 2)
    return b"".join(multiple_chunks(len(matrix), [matrix], dtype))


def multiple_chunks(
    count: int, matrices: Iterable[npt.ArrayLike], dtype: str = "float32"
) -> Iterator[bytes]:
    """Yield the bytes of :func:`write_multiple_embeddings` for vectors that come in parts.

    Args:
        count: vectors in all parts.
        matrices: the parts, each (rows, dimension).
        dtype: ``float32`` or ``float16``.

    Raises:
        StorageError: as there, or the parts do not add up to ``count``.
    """
    if count > _MOST:
        raise StorageError(f"{count} vectors do not fit the published layout; it ends at {_MOST}")
    yield _COUNT.pack(count)
    done = 0
    for part in matrices:
        matrix = _numbers(part, dtype, 2)
        length = matrix.shape[1] * matrix.itemsize
        records = np.empty((len(matrix), _COUNT.size + length), np.uint8)
        records[:, : _COUNT.size] = np.frombuffer(_COUNT.pack(length), np.uint8)
        records[:, _COUNT.size :] = matrix.view(np.uint8).reshape(len(matrix), length)
        done += len(matrix)
        yield records.tobytes()
    if done != count:
        raise StorageError(f"{done} vectors came where {count} were announced")


def view_multiple_embeddings(data: Any, dtype: str = "float32") -> Vectors:
    """Return the vectors of many records where they lie, without a copy.

    Args:
        data: bytes, or anything with a buffer, such as a memory-mapped file.
        dtype: the type of the numbers, which the layout does not tell.

    Returns:
        (count, dimension) of ``dtype``, little-endian; a view of ``data``. Without vectors (0, 0).

    Raises:
        CorruptFileError: the bytes are cut short, too many, or vectors differ in length.
    """
    kind, view = _kind(dtype), memoryview(data).cast("B")
    count = _count_at(view, 0)
    if count == 0:
        if len(view) != _COUNT.size:
            raise CorruptFileError(f"it counts no vectors, but has {len(view)} bytes")
        return np.empty((0, 0), kind)
    length = _count_at(view, _COUNT.size)
    if length == 0 or length % kind.itemsize:
        raise CorruptFileError(f"vector 0 has {length} bytes, no {dtype} numbers")
    record = _COUNT.size + length
    held = (len(view) - _COUNT.size) // record
    # As many records as there are bytes for: a count that lies takes no memory.
    whole = view[_COUNT.size : _COUNT.size + min(count, held) * record]
    records = np.frombuffer(whole, np.uint8).reshape(-1, record)
    lengths = records[:, : _COUNT.size].view("<u4")[:, 0]
    odd = np.flatnonzero(lengths != length)
    if odd.size:
        raise CorruptFileError(
            f"vector {odd[0]} has {lengths[odd[0]]} bytes, those before {length}; vectors of "
            "several lengths do not compare"
        )
    wanted = _COUNT.size + count * record
    if len(view) != wanted:
        raise CorruptFileError(
            f"{count} vectors of {length} bytes take {wanted} bytes, there are {len(view)}; was "
            "it cut short, or is something else behind it?"
        )
    return records[:, _COUNT.size :].view(kind)


def read_multiple_embeddings(data: Buffer, dtype: str = "float32") -> Vectors:
    """Return many vectors as an array of their own (count, dimension), in ``dtype``.

    Raises:
        CorruptFileError: as in :func:`view_multiple_embeddings`.
    """
    return np.ascontiguousarray(view_multiple_embeddings(data, dtype))


def _kind(dtype: str) -> np.dtype[Any]:
    if dtype not in DTYPES:
        raise StorageError(f"dtype {dtype!r} is not published; use {' or '.join(DTYPES)}")
    return columns.NUMBER_TYPES[dtype]


def _count_at(view: memoryview, offset: int) -> int:
    if len(view) < offset + _COUNT.size:
        raise CorruptFileError(f"it ends after {len(view)} bytes, within a count or length")
    (count,) = _COUNT.unpack_from(view, offset)
    return int(count)


def _numbers(values: npt.ArrayLike, dtype: str, axes: int) -> Vectors:
    """Return the numbers in a stored type, contiguous; refuse what a reader could not use."""
    array = np.asarray(values)
    if array.ndim != axes or (not array.shape[-1] and (axes == 1 or len(array))):
        raise StorageError(f"An array of shape {array.shape} is not {axes}-dimensional vectors")
    with np.errstate(over="ignore"):  # what does not fit float16 becomes infinite, found below
        numbers = np.ascontiguousarray(array, _kind(dtype))
    if not np.isfinite(numbers).all():
        raise StorageError(f"A number is not finite, or too large for {dtype}; check the vectors")
    return numbers
