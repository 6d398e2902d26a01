"""Export snapshots to other formats: .npy, Parquet, the published layout, a FAISS index.

Results are exported as JSON lines or Parquet.

Vectors are exported as float32 in the order of the snapshot. Formats other than Parquet have no
place for keys, which go into a second file of JSON lines, ``{"key": "a.jpg"}``, with the
``face_index`` where there is one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import arrow, files, layout, published
from featureid.storage.reader import Snapshot
from featureid.storage.result_reader import Results
from featureid.storage.results import result_schema
from featureid.stored_json import encode_json

#: Rows in memory at a time, and in a row group of a Parquet file.
BATCH_ROWS = 65_536

OnRows = Callable[[int], None]


def keys_path(path: str) -> str:
    """Return the path of the file with the keys of an exported file."""
    return f"{path}.keys.jsonl"


def export_npy(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write the vectors as a .npy file, float32 (rows, dimension), and the keys to a second file.

    Args:
        snapshot: the snapshot to export.
        path: the file to write, whole or not at all.
        on_rows: called with the number of rows each time some have been written.

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

    _write_with_keys(snapshot, path, chunks())


def export_published(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write the vectors in the published layout of many, and the keys to a second file.

    Numbers have the type in which the snapshot stores them.

    Args:
        snapshot: the snapshot to export.
        path: the file to write; gzipped if it ends in ``.gz``.
        on_rows: as in :func:`export_npy`.

    Raises:
        StorageError: as in :func:`export_npy`, or there are too many rows for the layout.
    """
    chunks = published.multiple_chunks(
        snapshot.num_rows, _matrices(snapshot, on_rows), snapshot.model.dtype
    )
    compressed = path.lower().endswith(".gz")
    _write_with_keys(
        snapshot, path, map(published.compress_binary, chunks) if compressed else chunks
    )


def export_parquet(snapshot: Snapshot, path: str, on_rows: OnRows) -> None:
    """Write all columns as a Parquet file; a vector is a fixed-size list of float32.

    Vectors are compressed by BYTE_STREAM_SPLIT and zstd, similar to a shard.

    Args:
        snapshot: the snapshot to export.
        path: the file to write.
        on_rows: as in :func:`export_npy`.

    Raises:
        UsageError: pyarrow is not installed.
        StorageError: as in :func:`export_npy`.
    """
    specs = snapshot.columns()
    fields = arrow.schema(specs, snapshot.manifest.info)
    parquet = arrow.load_package("pyarrow.parquet", "pyarrow")
    pa = arrow.load_package("pyarrow", "pyarrow")

    def chunks() -> Iterator[bytes]:
        sink = arrow.Sink()
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
    """Write a flat FAISS index of inner products (cosines), and the keys to a second file.

    The id of a vector in FAISS is the line number of its key, from 0. All of the index is held in
    memory.

    Args:
        snapshot: the snapshot to export.
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
    _write_with_keys(snapshot, path, [memoryview(faiss.serialize_index(index)).tobytes()])


EXPORTS: dict[str, Callable[[Snapshot, str, OnRows], None]] = {
    "npy": export_npy,
    "parquet": export_parquet,
    "published": export_published,
    "faiss": export_faiss,
}


def export_result_lines(results: Results, path: str, on_rows: OnRows) -> None:
    """Write the rows of a result as JSON lines, ``{"query": "a.jpg", "rank": 1, …}``.

    Args:
        results: the result to export.
        path: the file to write, whole or not at all.
        on_rows: as in :func:`export_npy`.

    Raises:
        StorageError: something cannot be read or written.
    """

    def chunks() -> Iterator[bytes]:
        for table in results.tables():
            yield b"".join(encode_json(row) + b"\n" for row in table.to_pylist())
            on_rows(len(table))

    files.write_atomic(path, chunks())


def export_result_parquet(results: Results, path: str, on_rows: OnRows) -> None:
    """Write the rows of a result as one Parquet file; otherwise as :func:`export_result_lines`."""
    parquet = arrow.load_package("pyarrow.parquet", "pyarrow")

    def chunks() -> Iterator[bytes]:
        sink = arrow.Sink()
        schema = result_schema(results.manifest.info)
        with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
            for table in results.tables():
                writer.write_table(table)
                on_rows(len(table))
                yield sink.take()
        yield sink.take()

    files.write_atomic(path, chunks())


RESULT_EXPORTS: dict[str, Callable[[Results, str, OnRows], None]] = {
    "jsonl": export_result_lines,
    "parquet": export_result_parquet,
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


def _write_with_keys(snapshot: Snapshot, path: str, chunks: Iterable[bytes]) -> None:
    """Write a file, and its keys once all of it is written but not yet in its place.

    So vectors that cannot be read or written leave both files as they were.
    """

    def all_chunks() -> Iterator[bytes]:
        yield from chunks
        _write_keys(snapshot, path)

    files.write_atomic(path, all_chunks())


def _write_keys(snapshot: Snapshot, path: str) -> None:
    names = [
        spec.name for spec in snapshot.columns() if spec.name in (layout.KEY, layout.FACE_INDEX)
    ]

    def lines(block: dict[str, Any]) -> Iterable[bytes]:
        values = (np.asarray(block[n]).tolist() if n != layout.KEY else block[n] for n in names)
        for row in zip(*values, strict=True):
            yield encode_json(dict(zip(names, row, strict=True))) + b"\n"

    chunks = (b"".join(lines(block)) for block in snapshot.blocks(names))
    files.write_atomic(keys_path(path), chunks)
