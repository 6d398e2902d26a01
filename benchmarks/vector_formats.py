"""The file formats that ``format.py`` compares; not a benchmark itself."""

from __future__ import annotations

import gzip
import statistics
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featureid.storage import files, layout, published
from featureid.storage.columns import Values
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.reader import open_snapshot
from featureid.storage.records import ModelInfo, SnapshotInfo
from featureid.storage.row_columns import row_columns
from featureid.storage.run_record import RunRecord
from featureid.storage.shard import ShardEncoder, make_header, shard_name, shard_of

DIMENSION = 128
SHARDS = 4
_ID = "20261123T054231Z-3f9a1c"
_ROW_GROUP = 65_536

Matrix = npt.NDArray[np.float32]
Shards = Sequence[tuple[list[str], Matrix]]


@dataclass
class Format:
    """A way to store vectors.

    Attributes:
        name: name in the table.
        write: write a matrix and its keys into a folder.
        read: return the matrix in a folder, using a number of threads.
        threads: the numbers of threads that it can read with.
        size: size of its files in bytes.
        figures: name to measured values.
    """

    name: str
    write: Callable[[Path, Matrix, Sequence[str]], Any]
    read: Callable[[Path, int], Any]
    threads: tuple[int, ...] = (1,)
    size: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, figure: str, value: float) -> None:
        """Keep one measured value."""
        self.figures.setdefault(figure, []).append(value)

    def median(self, figure: str) -> float | None:
        """Return the median of the measured values, or None if there are none."""
        return statistics.median(self.figures[figure]) if figure in self.figures else None


def formats(shards: Shards = ()) -> list[Format]:
    """Return the formats that are compared, ``featureid`` first.

    Args:
        shards: what ``featureid`` writes; from :func:`spread`, which is not part of writing.
    """
    many = published.write_multiple_embeddings
    return [
        Format(
            "featureid",
            lambda folder, *_: write_snapshot(folder, shards),
            lambda folder, threads: open_snapshot(str(folder)).vectors(threads),
            (1, 2),
        ),
        Format(
            "published .bin.gz, its loop",
            lambda folder, matrix, _: (folder / "x").write_bytes(gzip.compress(many(matrix), 1)),
            lambda folder, _: _read_published(folder / "x", gzip.open),
        ),
        Format(
            "published .bin, its loop",
            lambda folder, matrix, _: (folder / "x").write_bytes(many(matrix)),
            lambda folder, _: _read_published(folder / "x", open),
        ),
        Format(
            "published .bin, vectorized",
            lambda folder, matrix, _: (folder / "x").write_bytes(many(matrix)),
            lambda folder, _: published.read_multiple_embeddings((folder / "x").read_bytes()),
        ),
        Format(
            ".npy",
            lambda folder, matrix, _: np.save(folder / "x.npy", matrix),
            lambda folder, _: np.load(folder / "x.npy"),
        ),
        Format(".npy.gz", _write_npy_gz, _read_npy_gz),
        Format(
            "Parquet zstd + split",
            write_compressed_parquet,
            lambda folder, threads: _read_parquet(folder / "x.parquet", threads),
            (1, 2),
        ),
        Format(
            "Parquet uncompressed",
            lambda folder, matrix, keys: _write_parquet(
                folder / "x.parquet", matrix, keys, compression="none"
            ),
            lambda folder, threads: _read_parquet(folder / "x.parquet", threads),
            (1, 2),
        ),
    ]


def spread(keys: Sequence[str], matrix: Matrix, count: int) -> Shards:
    """Return keys and vectors by shard and sorted, as a pipeline has them before it writes.

    If there are fewer vectors than keys, every shard gets the same vectors.
    """
    shards: list[list[int]] = [[] for _ in range(count)]
    for row, key in enumerate(keys):
        shards[shard_of(key, count)].append(row)
    result = []
    for rows in shards:
        rows.sort(key=keys.__getitem__)
        vectors = matrix[rows] if len(matrix) == len(keys) else matrix[: len(rows)]
        result.append(([keys[row] for row in rows], vectors))
    return result


def write_snapshot(output: Path, shards: Shards) -> None:
    """Write and publish a snapshot of the keys and vectors of :func:`spread`."""
    model = ModelInfo("image", "ab" * 32, "cd" * 32, DIMENSION)
    info = SnapshotInfo(_ID, "2026-11-23T05:42:31Z", "benchmark", model, len(shards))
    writer = SnapshotWriter(str(output), info, RunRecord.begin(info, {}, {}))
    writer.begin()
    summaries, specs = [], row_columns(model)[:2]
    for number, (keys, matrix) in enumerate(shards):
        name = shard_name(number, len(shards))
        header = make_header(info, number, len(keys), specs)
        encoder = ShardEncoder(name, header, _blocks(keys, matrix))
        files.write_atomic(f"{writer.folder}/{name}", encoder)
        summaries.append(encoder.summary)
    writer.commit(summaries, failures=[], changes={})


def _blocks(keys: list[str], matrix: Matrix) -> Iterator[dict[str, Values]]:
    for start in range(0, len(keys), layout.BLOCK_ROWS):
        rows = slice(start, start + layout.BLOCK_ROWS)
        yield {"key": keys[rows], "vector": matrix[rows]}


def write_compressed_parquet(folder: Path, matrix: Matrix, keys: Sequence[str]) -> None:
    """Write ``x.parquet`` compressed, with BYTE_STREAM_SPLIT vectors."""
    _write_parquet(
        folder / "x.parquet",
        matrix,
        keys,
        compression="zstd",
        use_byte_stream_split=["vector.list.element"],
    )


def _write_parquet(path: Path, matrix: Matrix, keys: Sequence[str], **options: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), DIMENSION)
    table = pa.table({"key": pa.array(keys), "vector": vectors})
    pq.write_table(table, path, row_group_size=_ROW_GROUP, use_dictionary=False, **options)


def _read_parquet(path: Path, threads: int) -> Matrix:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(threads)
    column = pq.read_table(path, columns=["vector"], use_threads=threads > 1)["vector"]
    numbers = column.combine_chunks().flatten().to_numpy()
    matrix: Matrix = numbers.reshape(-1, DIMENSION)
    return matrix


def _write_npy_gz(folder: Path, matrix: Matrix, _: Sequence[str]) -> None:
    with gzip.open(folder / "x.npy.gz", "wb", compresslevel=1) as file:
        np.save(file, matrix)


def _read_npy_gz(folder: Path, _: int) -> Matrix:
    with gzip.open(folder / "x.npy.gz") as file:
        matrix: Matrix = np.load(file)
    return matrix


def _read_published(path: Path, opener: Callable[..., Any]) -> Matrix:
    with opener(path, "rb") as file:
        return _published_loop(file)


def _published_loop(file: BinaryIO) -> Matrix:
    """Read many vectors one by one from an open file, as the published reader reads one."""
    (count,) = struct.unpack("I", file.read(4))
    found = []
    for _ in range(count):
        file.read(4)  # the length of the record, which its metadata repeat
        (size,) = struct.unpack("I", file.read(4))
        assert file.read(7).decode("utf-8") == "float32"
        found.append(np.frombuffer(file.read(size * 4), np.float32))
    return np.stack(found)
