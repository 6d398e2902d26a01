"""Snapshots into the formats of others: .npy, Parquet, the published layout, a FAISS index.

Vectors are exported as float32 in the order of the snapshot. All but Parquet have no place for
keys, so these go into a file beside: JSON lines, ``{"key": "a.jpg"}``, with the ``face_index``
where there is one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import arrow, files, layout, published
from featureid.storage.reader import Snapshot

#: Rows that are in memory together, and in one row group of a Parquet file.
BATCH_ROWS = 65_536

OnRows = Callable[[int], None]


def keys_path(path: str) -> str:
    """Return where the keys of an exported file are."""
    return f"{path}.keys.jsonl"


def export_npy(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write the vectors as a .npy file, float32 (rows, dimension), and their keys beside it.

    Args:
        snapshot: what to export.
        path: the file to write, whole or not at all.
        on_rows: told how many rows have been written, each time some have.

    Raises:
        StorageError: something cannot be read or written.
    """

    def chunks() -> Iterator[bytes]:
        head = io.BytesIO()
        shape = (snapshot.num_rows, snapshot.model.dimension)
        np.lib.format.write_array_header_1_0(
            head, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        yield head.getvalue()
        yield from (matrix.tobytes() for matrix in _matrices(snapshot, on_rows))

    _write_keys(snapshot, path)
    files.write_atomic(path, chunks())


def export_published(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write the vectors in the published layout of many, float32, and their keys beside them.

    Args:
        snapshot: what to export.
        path: the file to write; gzipped if it ends in ``.gz``.
        on_rows: as in :func:`export_npy`.

    Raises:
        StorageError: as in :func:`export_npy`, or there are too many rows for the layout.
    """
    chunks = published.multiple_chunks(snapshot.num_rows, _matrices(snapshot, on_rows))
    _write_keys(snapshot, path)
    compressed = path.endswith(".gz")
    files.write_atomic(path, map(published.compress_binary, chunks) if compressed else chunks)


def export_parquet(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write all columns as a Parquet file: a vector is a fixed-size list of float32.

    Numbers of vectors are compressed by byte-stream-split and zstd, close to what a shard does.

    Args:
        snapshot: what to export.
        path: the file to write.
        on_rows: as in :func:`export_npy`.

    Raises:
        UsageError: pyarrow is not installed.
        StorageError: as in :func:`export_npy`.
    """
    specs = snapshot.columns()
    fields = arrow.schema(specs, snapshot.model)
    parquet = arrow.load_package("pyarrow.parquet", "pyarrow")
    pa = arrow.load_package("pyarrow", "pyarrow")

    def chunks() -> Iterator[bytes]:
        sink = _Sink()
        split = [f"{layout.VECTOR}.list.element"]
        texts = [spec.name for spec in specs if spec.is_text]
        with parquet.ParquetWriter(
            sink, fields, compression="zstd", use_dictionary=texts, use_byte_stream_split=split
        ) as writer:
            blocks = snapshot.blocks()
            per_group = max(1, BATCH_ROWS // layout.BLOCK_ROWS)
            while group := [
                arrow.record_batch(specs, fields, block) for block in islice(blocks, per_group)
            ]:
                table = pa.Table.from_batches(group, fields)
                writer.write_table(table)
                on_rows(len(table))
                yield sink.take()
        yield sink.take()

    files.write_atomic(path, chunks())


def export_faiss(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write a flat FAISS index of inner products, which are cosines, and the keys beside it.

    The number that FAISS calls an id is the line of the key. The index is in memory as a whole.

    Args:
        snapshot: what to export.
        path: the file to write, for ``faiss.read_index``.
        on_rows: as in :func:`export_npy`.

    Raises:
        UsageError: faiss is not installed.
        StorageError: as in :func:`export_npy`.
    """
    faiss = arrow.load_package("faiss", "featureid[search]")
    index = faiss.IndexFlatIP(snapshot.model.dimension)
    for matrix in _matrices(snapshot, on_rows):
        index.add(matrix)
    _write_keys(snapshot, path)
    files.write_atomic(path, [memoryview(faiss.serialize_index(index)).tobytes()])


EXPORTS: dict[str, Callable[[Snapshot, str, OnRows], None]] = {
    "npy": export_npy,
    "parquet": export_parquet,
    "published": export_published,
    "faiss": export_faiss,
}


def _matrices(snapshot: Snapshot, on_rows: OnRows) -> Iterator[npt.NDArray[np.float32]]:
    done = 0
    for _, matrix in snapshot.batches(BATCH_ROWS):
        yield matrix.astype("<f4", copy=False)
        done += len(matrix)
        on_rows(len(matrix))
    if done != snapshot.num_rows:
        raise StorageError(
            f"{snapshot.folder} has {done} rows, its manifest says {snapshot.num_rows}; run "
            "featureid verify"
        )


def _write_keys(snapshot: Snapshot, path: str) -> None:
    names = [
        spec.name for spec in snapshot.columns() if spec.name in (layout.KEY, layout.FACE_INDEX)
    ]

    def lines(block: dict[str, Any]) -> Iterable[str]:
        values = (np.asarray(block[n]).tolist() if n != layout.KEY else block[n] for n in names)
        for row in zip(*values, strict=True):
            yield json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n"

    chunks = ("".join(lines(block)).encode() for block in snapshot.blocks(names))
    files.write_atomic(keys_path(path), chunks)


class _Sink(io.RawIOBase):
    """Takes what a writer writes, until someone takes it away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Say that it may be written to."""
        return True

    def write(self, data: Any) -> int:
        """Keep the bytes."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._size

    def take(self) -> bytes:
        """Return, and forget, what was written since the last time."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data
