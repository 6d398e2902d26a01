"""Small snapshots for the storage tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featureid.storage.files import RangeReader
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.manifest import Manifest
from featureid.storage.records import (
    EmbeddingRow,
    Failure,
    ModelInfo,
    PerceptualHash,
    SnapshotInfo,
)
from featureid.storage.run_record import RunRecord
from featureid.storage.shard import (
    ShardEncoder,
    ShardSummary,
    make_header,
    row_blocks,
    shard_of,
    write_shard,
)
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import snapshot_folder

ID = "20261123T054231Z-3f9a1c"
FAILURES = (
    Failure("b/broken.jpg", "decode", "truncated", "the JPEG ends early", "v7"),
    Failure("a/empty.jpg", "read", "empty", "no bytes"),
)


def make_info(
    num_shards: int = 1,
    dimension: int = 4,
    dtype: str = "float32",
    snapshot: str = ID,
    faces: str = "",
) -> SnapshotInfo:
    """Return the info of a snapshot."""
    model = ModelInfo("image", "ab" * 32, "cd" * 32, dimension, dtype, faces)
    return SnapshotInfo(snapshot, "2026-11-23T05:42:31Z", "featureid test", model, num_shards)


def make_row(key: str, dimension: int = 4) -> EmbeddingRow:
    """Return a row whose every value follows from its key."""
    digest = hashlib.sha256(key.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    vector = rng.standard_normal(dimension)
    unit = (vector / np.linalg.norm(vector)).astype(np.float32)
    return EmbeddingRow(key, unit, digest, digest[0] << 33, f'"{digest[1]}"', digest[2], digest[3])


def make_hash(key: str) -> PerceptualHash:
    """Return a hash that follows from a key."""
    digest = hashlib.sha256(key.encode()).digest()
    return PerceptualHash(digest, digest[0] % 101)


def encode(rows: Sequence[EmbeddingRow], info: SnapshotInfo, block_rows: int = 1024) -> bytes:
    """Return the bytes of shard 0 with these rows."""
    ordered = sorted(rows, key=lambda row: row.key)
    header = make_header(info, 0, len(ordered))
    return b"".join(ShardEncoder("sample", header, row_blocks(ordered, info, block_rows)))


def read_all(path: Path) -> dict[str, list[Any]]:
    """Return every value of every column of a shard file."""
    with RangeReader(str(path)) as source:
        shard = ShardMap(source)
        blocks = range(len(shard.index.blocks))
        return {
            spec.name: [
                value for block in blocks for value in shard.values(source, block, spec.name)
            ]
            for spec in shard.header.columns
        }


def make_writer(
    output: Path | str, info: SnapshotInfo, previous: str = "", process: str = ""
) -> SnapshotWriter:
    """Return the writer of a snapshot; its previous one lies in the same output."""
    record = RunRecord.begin(info, {}, {}, previous=previous, process=process)
    folder = snapshot_folder(str(output), previous) if previous else ""
    return SnapshotWriter(str(output), info, record, folder)


def write_snapshot(
    output: Path | str,
    keys: Sequence[str],
    num_shards: int = 3,
    failures: Sequence[Failure] = FAILURES,
    snapshot: str = ID,
    dtype: str = "float32",
) -> Manifest:
    """Write and publish a snapshot."""
    info = make_info(num_shards, snapshot=snapshot, dtype=dtype)
    return write_rows(output, info, [make_row(key) for key in keys], failures)


def write_rows(
    output: Path | str,
    info: SnapshotInfo,
    rows: Sequence[EmbeddingRow],
    failures: Sequence[Failure] = (),
) -> Manifest:
    """Write and publish a snapshot of these rows."""
    writer = make_writer(output, info)
    with writer.running():
        return writer.commit(write_shards(writer, rows), failures, {})


def write_shards(writer: SnapshotWriter, rows: Sequence[EmbeddingRow]) -> list[ShardSummary]:
    """Write all shards of a snapshot, without publishing it."""
    total = writer.info.num_shards
    return [
        write_shard(
            writer.folder, writer.info, n, [row for row in rows if shard_of(row.key, total) == n]
        )
        for n in range(total)
    ]
