"""The layouts of the published method, byte for byte, little-endian on every machine.

=====================  ===========================================================================
one vector             its numbers, float32 or float16: 512 bytes for 128 float32
compressed             the same, gzipped
one with metadata      uint32 count of numbers, ``float32`` or ``float16``, the numbers
many                   uint32 count of vectors; then for each, uint32 length in bytes and the
                       vector with its metadata
=====================  ===========================================================================

The function names are those of the method, which has float32 only; float16 is written the same way.
None of the layouts has a checksum, a key or the name of a model, so that only lengths and metadata
can be checked; all of them are, before memory is allocated.
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
#: What any file may inflate to, whatever its size.
_SMALL = 1 << 20
#: Bytes that are compressed together.
_CHUNK = 1 << 22

Vectors = npt.NDArray[Any]


def embedding_to_binary(embedding: npt.ArrayLike, dtype: str = "float32") -> bytes:
    """Return the numbers of one vector.

    Args:
        embedding: (dimension,).
        dtype: ``float32`` or ``float16``.

    Raises:
        StorageError: it is not a vector of finite numbers that the type can hold.
    """
    return _numbers(embedding, dtype, 1).tobytes()


def binary_to_embedding(
    data: Buffer, dtype: str = "float32", dimension: int = DIMENSION
) -> Vectors:
    """Return the vector (dimension,) of :func:`embedding_to_binary`, in ``dtype``.

    Raises:
        CorruptFileError: there are more or fewer bytes.
    """
    kind, size = _kind(dtype), memoryview(data).nbytes
    if size != dimension * kind.itemsize:
        raise CorruptFileError(
            f"{size} bytes are not {dimension} numbers of {dtype}, which take "
            f"{dimension * kind.itemsize}; the vector is truncated, or has another length or type"
        )
    vector: Vectors = np.frombuffer(data, kind).copy()
    return vector


def compress_binary(data: Buffer) -> bytes:
    """Return the bytes as a gzip file, the same on every call.

    It inflates to at most 8 times its size, so that readers may refuse one that inflates to more.
    """
    view = memoryview(data).cast("B")
    chunks = (view[start : start + _CHUNK] for start in range(0, max(1, len(view)), _CHUNK))
    return b"".join(layout.pack_text(bytes(chunk)) for chunk in chunks)


def decompress_binary(data: Buffer) -> bytes:
    """Return the content of a gzip file of feature IDs.

    Raises:
        CorruptFileError: it is damaged, truncated, or inflates to more than 8 times its size plus
            1 MiB, which files of feature IDs never do.
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
        CorruptFileError: there are too few or too many bytes, or they name another type.
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
    """Return many vectors: their count, then the length and bytes of each one with metadata.

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
    """Yield the bytes of :func:`write_multiple_embeddings` for vectors that come in several arrays.

    Args:
        count: number of vectors in all arrays.
        matrices: the arrays, each (rows, dimension).
        dtype: ``float32`` or ``float16``.

    Raises:
        StorageError: as there, or the arrays do not add up to ``count``.
    """
    if count > _MOST:
        raise StorageError(
            f"{count} vectors do not fit the published layout, which holds at most {_MOST}"
        )
    yield _COUNT.pack(count)
    done = 0
    for part in matrices:
        matrix = _numbers(part, dtype, 2)
        records = np.empty(len(matrix), _record(matrix.shape[1], dtype))
        records["length"] = records.dtype.itemsize - _COUNT.size
        records["size"] = matrix.shape[1]
        records["type"] = dtype.encode("ascii")
        records["vector"] = matrix
        done += len(matrix)
        yield records.tobytes()
    if done != count:
        raise StorageError(f"{done} vectors were given, but {count} announced")


def view_multiple_embeddings(data: Any) -> Vectors:
    """Return the vectors of :func:`write_multiple_embeddings` without a copy.

    Args:
        data: bytes, or anything with a buffer, such as a memory-mapped file.

    Returns:
        (count, dimension) of the type that the metadata name, little-endian, not aligned; a view
        of ``data``. Without vectors (0, 0) float32.

    Raises:
        CorruptFileError: there are too few or too many bytes, or vectors differ in length or type.
    """
    view = memoryview(data).cast("B")
    count = _count_at(view, 0)
    if count == 0:
        if len(view) != _COUNT.size:
            raise CorruptFileError(f"its count is 0, but it has {len(view)} bytes")
        return np.empty((0, 0), _kind("float32"))
    kind = _first_record(view)
    held = (len(view) - _COUNT.size) // kind.itemsize
    # Only as many records as there are bytes: a wrong count must not allocate memory.
    end = _COUNT.size + min(count, held) * kind.itemsize
    records = np.frombuffer(view[_COUNT.size : end], kind)
    for name in ("length", "size", "type"):
        odd = np.flatnonzero(records[name] != records[name][:1])
        if odd.size:
            raise CorruptFileError(
                f"record {odd[0]} has the {name} {records[name][odd[0]].item()!r}, record 0 has "
                f"{records[name][0].item()!r}; vectors of different lengths or types do not compare"
            )
    wanted = _COUNT.size + count * kind.itemsize
    if len(view) != wanted:
        raise CorruptFileError(
            f"{count} records of {kind.itemsize} bytes take {wanted} bytes, but there are "
            f"{len(view)}; the file is truncated, or has something appended"
        )
    vectors: Vectors = records["vector"]
    return vectors


def _first_record(view: memoryview) -> np.dtype[Any]:
    """Return the type of the records, from the length and metadata of the first one."""
    length = _count_at(view, _COUNT.size)
    start = 2 * _COUNT.size
    metadata = view[start : start + _COUNT.size + _NAME_BYTES]
    if len(metadata) < _COUNT.size + _NAME_BYTES:
        raise CorruptFileError(f"it has {len(view)} bytes and ends within the first record")
    (size,) = _COUNT.unpack_from(metadata)
    name = bytes(metadata[_COUNT.size :]).decode("ascii", "replace")
    if name not in DTYPES or size == 0:
        raise CorruptFileError(
            f"record 0 has {size} numbers of the type {name!r}, not some of {' or '.join(DTYPES)}; "
            "is the file in another layout, such as one without metadata?"
        )
    if size * _kind(name).itemsize + len(metadata) != length:
        raise CorruptFileError(
            f"record 0 has {length} bytes, but its metadata say {size} numbers of {name}, which "
            f"take {size * _kind(name).itemsize + len(metadata)}"
        )
    return _record(size, name)


def _record(dimension: int, dtype: str) -> np.dtype[Any]:
    """Return the NumPy type of one record of many, without padding."""
    return np.dtype(
        [
            ("length", "<u4"),
            ("size", "<u4"),
            ("type", f"S{_NAME_BYTES}"),
            ("vector", _kind(dtype), (dimension,)),
        ]
    )


def read_multiple_embeddings(data: Buffer) -> Vectors:
    """Return many vectors as a new array (count, dimension), in the type that the bytes name.

    Raises:
        CorruptFileError: as in :func:`view_multiple_embeddings`.
    """
    return view_multiple_embeddings(data).copy()


def _kind(dtype: str) -> np.dtype[Any]:
    if dtype not in DTYPES:
        raise StorageError(f"dtype {dtype!r} is not supported; use {' or '.join(DTYPES)}")
    return columns.NUMBER_TYPES[dtype]


def _count_at(view: memoryview, offset: int) -> int:
    if len(view) < offset + _COUNT.size:
        raise CorruptFileError(f"it has {len(view)} bytes and ends within a count or length")
    (count,) = _COUNT.unpack_from(view, offset)
    return int(count)


def _numbers(values: npt.ArrayLike, dtype: str, axes: int) -> Vectors:
    """Return the numbers in a stored type, contiguous, after checking that they are usable."""
    array = np.asarray(values)
    if array.ndim != axes or (not array.shape[-1] and (axes == 1 or len(array))):
        raise StorageError(f"An array of shape {array.shape} is not {axes}-dimensional vectors")
    with np.errstate(over="ignore"):  # what does not fit float16 becomes infinite, found below
        numbers = np.ascontiguousarray(array, _kind(dtype))
    if not np.isfinite(numbers).all():
        raise StorageError(f"A number is not finite, or too large for {dtype}; check the vectors")
    return numbers
