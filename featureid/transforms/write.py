"""Write rows and failures as a snapshot, and publish it as the last step of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton, DoOutputsTuple, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from featureid.errors import UsageError
from featureid.inputs import ImageRef
from featureid.keys import ImageLocations, readable
from featureid.storage.carry import write_refreshed_shard
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.reader import Snapshot
from featureid.storage.records import EmbeddingRow, Failure, ModelInfo
from featureid.storage.run_record import RunRecord, versions_of
from featureid.storage.safeguards import DEFAULT_LIMIT, DeletionLimit, Safeguards
from featureid.storage.shard import ShardSummary, choose_num_shards, shard_of, write_shard
from featureid.storage.snapshot import new_info, new_snapshot_id
from featureid.transforms import metrics
from featureid.transforms.batches import Batcher, pack, unpack_shard

# Rows that wait to be sent, of all shards together: enough for large batches, and some MB.
_WAITING_ROWS = 4096


class WriteSnapshot(beam.PTransform):
    """Write rows and failures as one snapshot and publish it.

    Input: what :class:`~featureid.transforms.EmbedImages` returns, or another mapping with
    ``rows``, a bounded ``PCollection[EmbeddingRow]``, and optionally ``failures``, a
    ``PCollection[Failure]``, and ``model``, a ``PCollection[ModelInfo]`` of one element. Keys are
    unique; all windows go into the same snapshot. Relative keys are taken to start in the folder
    in which the pipeline is constructed.

    Output: ``PCollection[str]`` of one element, the folder of the snapshot, once it is published.

    Every shard is written completely or not at all. The manifest, written last, is the commit: if
    the pipeline fails, readers see nothing, and ``featureid prune`` deletes what was written. It
    fails with a :class:`~featureid.errors.MixedModelsError`, before anything is written, if the
    output holds vectors of another model.

    Args:
        output: the folder that holds snapshots; a local path, or a URI that all workers can write.
        model: the model of the rows, if the input does not have it.
        num_shards: number of files; None chooses it by the number of rows, about 50 MB per file.
        new_model: whether the snapshot may replace one of another model.
        max_deleted: how many images fewer than the current snapshot it may have, ``"100"`` or
            ``"5%"``; None means 5 images or 5 %, whichever is more.

    Raises:
        UsageError: neither the input nor the argument names the model, or ``max_deleted`` is
            neither a number nor a share.
    """

    def __init__(
        self,
        output: str | os.PathLike[str],
        *,
        model: ModelInfo | None = None,
        num_shards: int | None = None,
        new_model: bool = False,
        max_deleted: str | None = None,
    ) -> None:
        super().__init__()
        limit = DEFAULT_LIMIT if max_deleted is None else DeletionLimit.parse(max_deleted)
        self._safeguards = Safeguards(new_model, limit)
        self._output = os.fspath(output)
        self._model = model
        self._num_shards = num_shards

    def expand(self, inputs: Mapping[str, beam.PCollection]) -> beam.PCollection:
        """Wire the writing."""
        rows = inputs["rows"] | "RowsOfAllWindows" >> beam.WindowInto(GlobalWindows())
        failures: Sequence[Failure] | AsIter = ()
        if "failures" in inputs:
            everywhere = beam.WindowInto(GlobalWindows())
            failures = AsIter(inputs["failures"] | "FailuresOfAllWindows" >> everywhere)
        # The id is chosen here, so that a step that is retried writes into the same folder.
        now = datetime.now(UTC)
        new = new_snapshot_id(now), now, ImageLocations(readable(os.getcwd()))
        target = self._output, new, self._num_shards, self._safeguards
        model = self._model_of(inputs)
        # Of its own, since beginning waits for the number of rows, hours perhaps.
        once = rows.pipeline | "Once" >> beam.Impulse()
        once | "CheckOutput" >> beam.Map(_check, target, model)
        begin = beam.Map(_begin, target, model)
        counted = rows | "CountRows" >> beam.combiners.Count.Globally()
        writer = counted | "Begin" >> begin.with_output_types(SnapshotWriter)
        batches = batch_by_shard("BatchByShard", rows, writer).batches
        shards = write_shards([batches], writer, None, has_changes=True)
        publish = beam.Map(_publish, AsIter(shards), failures).with_output_types(str)
        return writer | "Publish" >> publish

    def _model_of(self, inputs: Mapping[str, beam.PCollection]) -> ModelInfo | AsSingleton:
        if self._model is not None:
            return self._model
        if "model" in inputs:
            return AsSingleton(inputs["model"])
        raise UsageError(
            "WriteSnapshot does not know the model of the rows; pass model=…, for example "
            "open_snapshot(…).model, or the whole output of EmbedImages"
        )


def batch_by_shard(label: str, rows: beam.PCollection, writer: beam.PCollection) -> DoOutputsTuple:
    """Batch rows, or references to images, by the shard they belong to.

    Args:
        label: of the step.
        rows: embedding rows or image references.
        writer: one SnapshotWriter, which has the number of shards.

    Returns:
        ``batches``, pairs of shard and batch, and ``any``, which has elements if there are rows.
    """
    step = beam.ParDo(_BatchByShard(), AsSingleton(writer))
    typed = step.with_output_types(tuple[int, bytes], any=bool)
    return rows | label >> typed.with_outputs("any", main="batches")


def write_shards(
    batches: Sequence[beam.PCollection],
    writer: beam.PCollection,
    previous: Snapshot | None,
    *,
    has_changes: bool | AsSingleton,
) -> beam.PCollection:
    """Write every shard of a snapshot from the batches for it.

    Args:
        batches: pairs of shard and batch.
        writer: one SnapshotWriter.
        previous: the snapshot that rows are carried from, if any.
        has_changes: whether to write at all.

    Returns:
        One ShardSummary per shard.
    """
    # An empty batch for each shard, so that one without rows is written, too.
    empty = writer | "EachShard" >> beam.FlatMap(_empty_batches)
    step = beam.ParDo(_WriteShard(previous), AsSingleton(writer), has_changes)
    return (
        (*batches, empty)
        | "AllBatches" >> beam.Flatten()
        | "GroupByShard" >> beam.GroupByKey()
        | "WriteShards" >> step.with_output_types(ShardSummary)
    )


#: Output, what names, dates and locates the snapshot, number of shards if chosen, safeguards.
_Target = tuple[str, tuple[str, datetime, ImageLocations], int | None, Safeguards]


def _writer(rows: int, target: _Target, model: ModelInfo) -> SnapshotWriter:
    """Return the writer of a snapshot with a number of rows."""
    output, (snapshot, now, locations), num_shards, safeguards = target
    info = new_info(snapshot, now, model, num_shards or choose_num_shards(rows, model), locations)
    record = RunRecord.begin(info, {}, versions_of(["apache-beam"]))
    return SnapshotWriter(output, info, record, safeguards=safeguards)


def _check(_: bytes, target: _Target, model: ModelInfo) -> None:
    _writer(0, target, model).check()


def _begin(rows: int, target: _Target, model: ModelInfo) -> SnapshotWriter:
    writer = _writer(rows, target, model)
    writer.begin()
    return writer


def _publish(
    writer: SnapshotWriter, shards: Iterable[ShardSummary], failures: Iterable[Failure]
) -> str:
    with metrics.Stage(metrics.PUBLISH):
        writer.commit(shards, failures, {})
    return writer.folder


def _empty_batches(writer: SnapshotWriter) -> Iterator[tuple[int, bytes]]:
    for shard in range(writer.info.num_shards):
        yield shard, pack([])


class _BatchByShard(beam.DoFn):
    def start_bundle(self) -> None:
        self._batcher = Batcher(_WAITING_ROWS)
        self._any = False

    def process(
        self, row: EmbeddingRow | ImageRef, writer: SnapshotWriter
    ) -> Iterator[tuple[int, bytes]]:
        self._any = True
        if self._batcher.add(shard_of(row.key, writer.info.num_shards), row):
            yield from self._batcher.take()

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        for batch in self._batcher.take():
            yield GlobalWindows.windowed_value(batch)
        if self._any:
            yield TaggedOutput("any", GlobalWindows.windowed_value(True))


class _WriteShard(beam.DoFn):
    def __init__(self, previous: Snapshot | None) -> None:
        self._previous = previous
        self._stage = metrics.Stage(metrics.WRITE)

    def process(
        self, batched: tuple[int, Iterable[bytes]], writer: SnapshotWriter, has_changes: bool
    ) -> Iterator[ShardSummary]:
        if not has_changes:
            return
        shard, batches = batched
        with self._stage:
            writer.check_marked()
            rows, carried = unpack_shard(batches)
            place = writer.folder, writer.info, shard, rows
            if self._previous is None:
                yield write_shard(*place)
            else:
                yield write_refreshed_shard(*place, self._previous, carried)
