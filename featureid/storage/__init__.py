"""Feature IDs on disk: records, shards, snapshots, and reading them back."""

from featureid.storage.layout import DamageError, ShardHeader
from featureid.storage.lifecycle import SnapshotWriter
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
)
from featureid.storage.run_record import RunRecord
from featureid.storage.shard import ShardSummary, shard_name, shard_of, write_shard
from featureid.storage.snapshot import (
    current_snapshot,
    find_snapshot,
    new_snapshot_id,
    read_manifest,
    snapshot_folder,
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
    "RunRecord",
    "ShardHeader",
    "ShardSummary",
    "Snapshot",
    "SnapshotInfo",
    "SnapshotWriter",
    "VerifyReport",
    "build_manifest",
    "count_outcomes",
    "current_snapshot",
    "find_snapshot",
    "new_snapshot_id",
    "open_snapshot",
    "read_manifest",
    "shard_name",
    "shard_of",
    "snapshot_folder",
    "verify_snapshot",
    "write_shard",
]
