"""Read a published snapshot into a pipeline, each shard where a worker happens to be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np

from featureid.storage.columns import Values
from featureid.storage.reader import open_snapshot
from featureid.storage.records import EmbeddingRow
from featureid.storage.snapshot_shard import SnapshotShard


class ReadSnapshot(beam.PTransform):
    """Read the rows of a snapshot, or some of their columns.

    Input: none; apply it to a pipeline.
    Output: ``PCollection[EmbeddingRow]`` or, with ``columns``, ``PCollection[dict[str, Any]]``, one
    element per row, in no particular order.

    The snapshot is opened when the pipeline runs. Only references to shards are shuffled, never
    rows; a shard is read by one worker, block by block. A pipeline fails with the
    :class:`~featureid.errors.StorageError` or :class:`~featureid.errors.CorruptFileError` of a
    snapshot that is missing, damaged or lacks a column.

    Args:
        path: an output folder, meaning its current snapshot, or a snapshot's own folder; a local
            path, or a URI that all workers can read.
        columns: names of the columns to read, such as ``["key", "vector"]``; None for whole rows.
            Texts are str, single numbers int or float, and everything else is an array.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> None:
        super().__init__()
        self._path = os.fspath(path)
        self._columns = None if columns is None else list(columns)

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the reading."""
        # One worker resolves `current`, so that all shards are of the same snapshot.
        path = pipeline | "Path" >> beam.Create([self._path], reshuffle=False)
        shards = path | "ListShards" >> beam.FlatMap(list_shards) | "Spread" >> beam.Reshuffle()
        if self._columns is None:
            read = beam.FlatMap(read_rows).with_output_types(EmbeddingRow)
            return shards | "ReadRows" >> read
        read = beam.FlatMap(read_columns, self._columns).with_output_types(dict[str, Any])
        return shards | "ReadColumns" >> read


def list_shards(path: str) -> Sequence[SnapshotShard]:
    """Return the shards of the snapshot at ``path``."""
    return open_snapshot(path).shards()


def read_rows(shard: SnapshotShard) -> Iterator[EmbeddingRow]:
    """Yield the rows of a shard."""
    yield from shard.rows()


def read_columns(shard: SnapshotShard, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the named columns of each row of a shard."""
    for block in shard.blocks(columns):
        for values in zip(*(_items(block[name]) for name in columns), strict=True):
            yield dict(zip(columns, values, strict=True))


def _items(values: Values) -> Iterable[Any]:
    """Return the values of a column one by one, single numbers as Python's own."""
    return values.tolist() if isinstance(values, np.ndarray) and values.ndim == 1 else values
