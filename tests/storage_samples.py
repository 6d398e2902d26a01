"""Small snapshots for the storage tests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featureid.storage import (
    EmbeddingRow,
    Failure,
    Manifest,
    ModelInfo,
    SnapshotInfo,
    build_manifest,
    count_outcomes,
    prepare_snapshot,
    publish,
    shard_of,
    write_failures,
    write_shard,
)
from featureid.storage.files import RangeReader
from featureid.storage.shard import ShardEncoder, make_header, row_blocks
from featureid.storage.shard_reader import ShardMap

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


def encode(rows: Sequence[EmbeddingRow], info: SnapshotInfo, block_rows: int = 1024) -> bytes:
    """Return the bytes of shard 0 with these rows."""
    ordered = sorted(rows, key=lambda row: row.key)
    header = make_header(info, 0, len(ordered))
    return b"".join(ShardEncoder("sample", header, row_blocks(ordered, info, block_rows)))


def read_all(path: Path) -> dict[str, list]:
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


def write_snapshot(
    output: Path,
    keys: Sequence[str],
    num_shards: int = 3,
    failures: Sequence[Failure] = FAILURES,
    snapshot: str = ID,
    dtype: str = "float32",
) -> Manifest:
    """Write and publish a snapshot."""
    info = make_info(num_shards, snapshot=snapshot, dtype=dtype)
    manifest = write_files(output, info, keys, failures)
    publish(str(output), manifest)
    return manifest


def write_files(
    output: Path, info: SnapshotInfo, keys: Sequence[str], failures: Sequence[Failure] = FAILURES
) -> Manifest:
    """Write a snapshot's files without publishing it."""
    return write_rows(output, info, [make_row(key, info.model.dimension) for key in keys], failures)


def write_rows(
    output: Path, info: SnapshotInfo, rows: Sequence[EmbeddingRow], failures: Sequence[Failure] = ()
) -> Manifest:
    """The same with rows of one's own."""
    folder = prepare_snapshot(str(output), info.snapshot)
    total = info.num_shards
    summaries = [
        write_shard(folder, info, n, [row for row in rows if shard_of(row.key, total) == n])
        for n in range(total)
    ]
    reasons = [failure.reason for failure in failures]
    counts = count_outcomes(
        len({row.key for row in rows}), {reason: reasons.count(reason) for reason in reasons}
    )
    return build_manifest(info, summaries, [write_failures(folder, failures)], counts)
