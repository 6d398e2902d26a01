"""Write rows and failures as a snapshot, and publish it as the last step of the pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from featureid.storage.manifest import FileSummary, build_manifest, count_outcomes
from featureid.storage.records import EmbeddingRow, Failure, SnapshotInfo
from featureid.storage.shard import ShardSummary, choose_num_shards, shard_of, write_shard
from featureid.storage.snapshot import publish, snapshot_folder, write_failures

_ShardItems = tuple[int, Iterable[EmbeddingRow | None]]


class WriteSnapshot(beam.PTransform):
    """Rows and failures to a published snapshot.

    Input: a mapping with ``rows``, a ``PCollection[EmbeddingRow]``, ``failures``, a
    ``PCollection[Failure]``, and ``num_images``, a ``PCollection[int]`` of one number.
    Output: ``PCollection[str]``, the folder of the snapshot, there once it is published.

    Every shard is written under a temporary name and renamed; the manifest, written last and by
    one worker, is the commit.

    Args:
        output: the folder that holds snapshots; local or a URI.
        info: the snapshot. Where ``choose_shards`` is set, its ``num_shards`` is replaced by one
            that suits the number of images.
    """

    def __init__(self, output: str, info: SnapshotInfo, choose_shards: bool) -> None:
        super().__init__()
        self._output = output
        self._info = info
        self._choose_shards = choose_shards

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        """Wire the writing."""
        folder = snapshot_folder(self._output, self._info.snapshot)
        info = inputs["num_images"] | "ChooseShards" >> beam.Map(self._with_shards)
        # An empty item for each shard, so that one without rows is written, too.
        markers = info | "EachShard" >> beam.FlatMap(
            lambda info: ((shard, None) for shard in range(info.num_shards))
        ).with_output_types(tuple[int, EmbeddingRow | None])
        keyed = inputs["rows"] | "ToShards" >> beam.Map(
            lambda row, info: (shard_of(row.key, info.num_shards), row), AsSingleton(info)
        ).with_output_types(tuple[int, EmbeddingRow | None])
        shards = (
            (keyed, markers)
            | "WithMarkers" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShards" >> beam.Map(_write_shard, folder, AsSingleton(info))
        )
        failures = (
            inputs["failures"]
            | "Together" >> beam.combiners.ToList()
            | "WriteFailures" >> beam.Map(_write_failures, folder)
        )
        return failures | "Publish" >> beam.Map(
            _publish, self._output, AsSingleton(info), AsIter(shards)
        )

    def _with_shards(self, images: int) -> SnapshotInfo:
        if not self._choose_shards:
            return self._info
        return replace(self._info, num_shards=choose_num_shards(images, self._info.model))


@dataclass(frozen=True)
class _WrittenFailures:
    file: FileSummary
    by_reason: dict[str, int]


def _write_shard(items: _ShardItems, folder: str, info: SnapshotInfo) -> ShardSummary:
    shard, rows = items
    return write_shard(folder, info, shard, (row for row in rows if row is not None))


def _write_failures(failures: list[Failure], folder: str) -> _WrittenFailures:
    by_reason = Counter(failure.reason for failure in failures)
    return _WrittenFailures(write_failures(folder, failures), dict(by_reason))


def _publish(
    failures: _WrittenFailures, output: str, info: SnapshotInfo, shards: Iterable[ShardSummary]
) -> str:
    summaries = list(shards)
    counts = count_outcomes(sum(shard.keys for shard in summaries), failures.by_reason)
    return publish(output, build_manifest(info, summaries, [failures.file], counts))
