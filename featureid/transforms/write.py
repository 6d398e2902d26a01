"""Write rows and failures as a snapshot, and publish it as the last step of the pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from featureid.errors import StorageError
from featureid.inputs import ImageRef
from featureid.refresh import Changes, check_deleted, with_num_shards
from featureid.storage.carry import (
    CarriedRows,
    Mask,
    shards_between,
    write_refreshed_shard,
)
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.reader import Snapshot
from featureid.storage.records import EmbeddingRow, Failure, SnapshotInfo
from featureid.storage.run_record import RunRecord
from featureid.storage.shard import ShardSummary, shard_of, write_shard
from featureid.transforms import metrics
from featureid.transforms.batches import Packer, pack, unpack

# Rows that wait to be packed, of all shards together: enough that a pack holds many, and some MB.
_WAITING_ROWS = 4096


class WriteSnapshot(beam.PTransform):
    """Rows and failures to a published snapshot.

    Input: a mapping with ``rows``, a ``PCollection[EmbeddingRow]``, ``failures``, a
    ``PCollection[Failure]``, ``changes``, a ``PCollection[Changes]`` to be added up, ``carried``, a
    ``PCollection[tuple[int, numpy.ndarray]]`` as of :class:`ListImages`, and, where contents were
    compared, ``same``, a ``PCollection[Comparison]``: images whose rows are carried over with their
    source version.
    Output: ``PCollection[str]``, the folder of the snapshot, there once it is published, or, where
    nothing is new, once that is known.

    Every shard is written under a temporary name and renamed; the manifest, written last and by
    one worker, is the commit.  Rows that are carried over do not travel: whoever writes a shard
    takes them from the previous snapshot's files.

    Args:
        plan: the snapshot and where it goes.
    """

    def __init__(self, plan: WritePlan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        """Wire the writing."""
        # What comes in few elements is a side input as it is: to combine it first would be several
        # steps more, and each costs a local run 10 to 30 ms.
        plan, changes = self._plan, AsIter(inputs["changes"])
        # Also stops the run where too much is missing, before anything is embedded: the steps
        # that need the number of shards wait for it.
        once = inputs["changes"].pipeline | "Once" >> beam.Impulse()
        info = once | "ChooseShards" >> beam.Map(plan.checked_info, changes)
        # An empty pack for each shard, so that one without rows is written, too.
        empty = info | "EachShard" >> beam.FlatMap(
            lambda info: ((shard, pack([])) for shard in range(info.num_shards))
        ).with_output_types(tuple[int, bytes])
        rows = inputs["rows"] | "PackByShard" >> beam.ParDo(
            _PackByShard(), AsSingleton(info)
        ).with_outputs("any", main="packs")
        failures = AsIter(inputs["failures"])
        packs, num_same, anything_new = [rows.packs, empty], 0, True
        if plan.previous is not None:
            carried, num_same, num_touched = self._carried(inputs, info)
            packs += carried
            anything_new = AsSingleton(
                info
                | "AnythingNew"
                >> beam.Map(plan.is_new, changes, failures, AsIter(rows.any), num_touched)
            )
        shards = (
            packs
            | "AllPacks" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShards" >> beam.ParDo(_WriteShard(plan), AsSingleton(info), anything_new)
        )
        return info | "Publish" >> beam.Map(
            _publish, plan, changes, failures, num_same, anything_new, AsIter(shards)
        )

    def _carried(
        self, inputs: dict[str, beam.PCollection], info: beam.PCollection
    ) -> tuple[list[beam.PCollection], Any, Any]:
        """Packs of what is carried; how many images had the same content, and a new version."""
        carried = inputs["carried"] | "CarryToShards" >> beam.FlatMap(
            _carry_to_shards, self._plan.previous, AsSingleton(info)
        ).with_output_types(tuple[int, bytes])
        if "same" not in inputs:
            return [carried], 0, 0
        same = (
            inputs["same"]
            | "SameImages" >> beam.Map(lambda compared: compared.ref)
            | "PackSameByShard"
            >> beam.ParDo(_PackByShard(), AsSingleton(info)).with_outputs("any", main="packs")
        )
        touched = inputs["same"] | "Touched" >> beam.Filter(lambda compared: compared.touched)
        num_same, num_touched = (
            AsSingleton(counted | f"Count{name}" >> beam.combiners.Count.Globally())
            for name, counted in (("Same", inputs["same"]), ("Touched", touched))
        )
        return [carried, same.packs], num_same, num_touched


@dataclass(frozen=True)
class WritePlan:
    """The snapshot that is written, and what it is compared with.

    Attributes:
        output: the folder that holds snapshots; local or a URI.
        info: the snapshot; without ``fixed_shards``, its ``num_shards`` is chosen by the number of
            images.
        record: what ``run.json`` says of the run so far.
        previous: the snapshot that rows are carried from, if any.
        fixed_shards: keep to the number of shards in ``info``.
        max_deleted: the share of the previous snapshot's images that may be missing.
    """

    output: str
    info: SnapshotInfo
    record: RunRecord
    previous: Snapshot | None = None
    fixed_shards: bool = False
    max_deleted: float = 1.0

    @property
    def writer(self) -> SnapshotWriter:
        """What begins the run, and commits or discards it."""
        folder = self.previous.folder if self.previous is not None else ""
        return SnapshotWriter(self.output, self.info, self.record, folder)

    @property
    def folder(self) -> str:
        """The snapshot's folder."""
        return self.writer.folder

    @property
    def previous_folder(self) -> str:
        """The previous snapshot's folder.

        Raises:
            StorageError: there is none.
        """
        if self.previous is None:
            raise StorageError(f"{self.folder} was published and is gone; did something prune it?")
        return self.previous.folder

    def checked_info(self, _: object, changes: Iterable[Changes]) -> SnapshotInfo:
        """The snapshot with its number of shards.

        Args:
            _: nothing, so that this can be a step of its own.
            changes: what has changed in the inputs, to be added up.

        Raises:
            FeatureIdError: too many images are missing.
        """
        total = sum(changes, Changes())
        if self.previous is not None:
            check_deleted(total, self.max_deleted)
        return with_num_shards(self.info, total.images, self.previous, fixed=self.fixed_shards)

    def is_new(
        self,
        info: SnapshotInfo,
        changes: Iterable[Changes],
        failures: Iterable[Failure],
        any_rows: Iterable[bool],
        num_touched: int,
    ) -> bool:
        """Whether the snapshot would differ from the previous one.

        Args:
            info: the snapshot.
            changes: what has changed in the inputs, to be added up.
            failures: all of its failures.
            any_rows: not empty if there is a new row.
            num_touched: how many images have only another source version.
        """
        if self.previous is None or any(any_rows) or num_touched:
            return True
        if any(part.deleted for part in changes):
            return True
        if self.fixed_shards and info.num_shards != self.previous.num_shards:
            return True
        return sorted(failures) != sorted(self.previous.failures())


class _PackByShard(beam.DoFn):
    """Packs rows, or images with the same content, by the shard that they go to.

    The output ``any`` has elements if there are any packs.
    """

    def start_bundle(self) -> None:
        self._packer = Packer(_WAITING_ROWS)
        self._any = False

    def process(
        self, row: EmbeddingRow | ImageRef, info: SnapshotInfo
    ) -> Iterator[tuple[int, bytes] | TaggedOutput]:
        self._any = True
        if self._packer.add(shard_of(row.key, info.num_shards), row):
            yield from self._packer.take()

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        for packed in self._packer.take():
            yield GlobalWindows.windowed_value(packed)
        if self._any:
            yield TaggedOutput("any", GlobalWindows.windowed_value(True))


def _carry_to_shards(
    carried: tuple[int, Mask], previous: Snapshot | None, info: SnapshotInfo
) -> Iterator[tuple[int, bytes]]:
    """What is carried from a previous shard, for every shard that some of it goes to."""
    number, mask = carried
    if previous is not None:
        packed = pack([(number, len(mask), np.packbits(mask).tobytes())])
        for shard in shards_between(number, previous.num_shards, info.num_shards):
            yield shard, packed


class _WriteShard(beam.DoFn):
    def __init__(self, plan: WritePlan) -> None:
        self._plan = plan
        self._stage = metrics.Stage(metrics.WRITE)

    def process(
        self, packed: tuple[int, Iterable[bytes]], info: SnapshotInfo, anything_new: bool
    ) -> Iterator[ShardSummary]:
        if not anything_new:
            return
        shard, packs = packed
        with self._stage:
            rows: list[EmbeddingRow] = []
            masks: dict[int, Mask] = {}
            versions: dict[str, str] = {}
            for item in (item for packed_items in packs for item in unpack(packed_items)):
                if isinstance(item, EmbeddingRow):
                    rows.append(item)
                elif isinstance(item, ImageRef):
                    versions[item.key] = item.version
                else:
                    number, length, bits = item
                    unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), count=length)
                    masks[number] = unpacked.astype(np.bool_)
            folder, previous = self._plan.folder, self._plan.previous
            carried = CarriedRows(masks, versions)
            if previous is None:
                yield write_shard(folder, info, shard, rows)
            else:
                yield write_refreshed_shard(folder, info, shard, rows, previous, carried)


def _publish(
    info: SnapshotInfo,
    plan: WritePlan,
    changes: Iterable[Changes],
    failures: Iterable[Failure],
    same: int,
    anything_new: bool,
    shards: Iterable[ShardSummary],
) -> str:
    """Commit the snapshot, or discard it if nothing has changed."""
    if plan.previous is not None and not anything_new:
        plan.writer.discard()
        return plan.folder
    with metrics.Stage(metrics.PUBLISH):
        total = sum(changes, Changes()).compared(same)
        counted = total.to_dict() if plan.previous is not None else {}
        plan.writer.commit(info, shards, failures, counted)
    return plan.folder
