"""Feature IDs on disk: records, shards, snapshots, and reading them back."""

from featureid.storage.layout import DamageError, ShardHeader
from featureid.storage.manifest import (
    Counts,
    FileSummary,
    Manifest,
    build_manifest,
    count_outcomes,
)
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import (
    WHOLE_IMAGE,
    EmbeddingRow,
    Face,
    Failure,
    ModelInfo,
    SnapshotInfo,
    check_comparable,
)
from featureid.storage.shard import ShardSummary, shard_name, shard_of, write_shard
from featureid.storage.snapshot import (
    created_text,
    current_snapshot,
    failures_name,
    find_snapshot,
    new_snapshot_id,
    prepare_snapshot,
    publish,
    read_manifest,
    snapshot_folder,
    write_failures,
)
from featureid.storage.verify import Problem, VerifyReport, verify_snapshot

__all__ = [
    "WHOLE_IMAGE",
    "Counts",
    "DamageError",
    "EmbeddingRow",
    "Face",
    "Failure",
    "FileSummary",
    "Manifest",
    "ModelInfo",
    "Problem",
    "ShardHeader",
    "ShardSummary",
    "Snapshot",
    "SnapshotInfo",
    "VerifyReport",
    "build_manifest",
    "check_comparable",
    "count_outcomes",
    "created_text",
    "current_snapshot",
    "failures_name",
    "find_snapshot",
    "new_snapshot_id",
    "open_snapshot",
    "prepare_snapshot",
    "publish",
    "read_manifest",
    "shard_name",
    "shard_of",
    "snapshot_folder",
    "verify_snapshot",
    "write_failures",
    "write_shard",
]
