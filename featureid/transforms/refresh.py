"""Write the snapshot of a run that may carry rows over from a previous one, and publish it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from featureid.inputs import ImageRef
from featureid.refresh import Changes
from featureid.storage.carry import Mask, shards_between
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.records import Failure
from featureid.storage.shard import ShardSummary
from featureid.transforms import metrics
from featureid.transforms.batches import pack_carried
from featureid.transforms.list import unpack_folders
from featureid.transforms.write import batch_by_shard, write_shards
from featureid.write_plan import WritePlan


class RefreshSnapshot(beam.PTransform):
    """Write new and carried rows as a snapshot; publish it if anything has changed.

    Input: a mapping with ``rows``, a ``PCollection[EmbeddingRow]``, ``failures``, a
    ``PCollection[Failure]``, ``unread``, those of them whose images may have rows that are kept,
    ``changes``, ``missing``, ``found`` and ``carried`` of
    :class:`ListImages`, and, if contents were checked, ``same``, a ``PCollection[Comparison]``:
    images whose rows are carried over with another source version.
    Output: ``PCollection[str]``, the folder of the snapshot, once it is published or, if nothing
    has changed, discarded.

    Carried rows do not travel: the step that writes a shard reads them from the previous
    snapshot's files.

    Args:
        plan: the snapshot, and the one that it is compared with.
    """

    def __init__(self, plan: WritePlan) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        """Wire the writing."""
        # Collections of few elements are side inputs as they are: combining them first would be
        # several steps more, and each costs a local run 10 to 30 ms.
        plan, changes = self._plan, AsIter(inputs["changes"])
        # Also stops the run if too much is missing, before anything is embedded: the steps that
        # need the number of shards wait for it.
        once = inputs["changes"].pipeline | "Once" >> beam.Impulse()
        missing, found = AsIter(inputs["missing"]), AsIter(inputs["found"])
        choose = beam.Map(_choose_shards, plan, changes, missing, found).with_output_types(
            SnapshotWriter
        )
        writer = once | "ChooseShards" >> choose
        rows = batch_by_shard("BatchByShard", inputs["rows"], writer)
        failures = AsIter(inputs["failures"])
        batches, num_same, has_changes = [rows.batches], 0, True
        if plan.previous is not None:
            carried, num_same, num_touched = self._carried(inputs, writer)
            batches += carried
            ask = beam.Map(plan.has_changes, changes, failures, AsIter(rows.any), num_touched)
            has_changes = AsSingleton(writer | "HasChanges" >> ask)
        shards = write_shards(batches, writer, plan.previous, has_changes=has_changes)
        finish = beam.Map(_finish, plan, changes, failures, num_same, has_changes, AsIter(shards))
        return writer | "Finish" >> finish.with_output_types(str)

    def _carried(
        self, inputs: dict[str, beam.PCollection], writer: beam.PCollection
    ) -> tuple[list[beam.PCollection], Any, Any]:
        """Batches of what is carried; numbers of images of the same content, and touched ones."""
        carry = beam.FlatMap(_carry_to_shards, self._plan, AsSingleton(writer))
        typed = carry.with_output_types(tuple[int, bytes])
        kept = inputs["unread"] | "KeptImages" >> beam.FlatMap(_kept_image)
        carried = [
            inputs["carried"] | "CarryToShards" >> typed,
            batch_by_shard("BatchKeptByShard", kept, writer).batches,
        ]
        if "same" not in inputs:
            return carried, 0, 0
        refs = inputs["same"] | "SameImages" >> beam.Map(lambda known: known.ref)
        same = batch_by_shard("BatchSameByShard", refs, writer)
        touched = inputs["same"] | "Touched" >> beam.Filter(lambda known: known.touched)
        num_same, num_touched = (
            AsSingleton(counted | f"Count{name}" >> beam.combiners.Count.Globally())
            for name, counted in (("Same", inputs["same"]), ("Touched", touched))
        )
        return [*carried, same.batches], num_same, num_touched


def _kept_image(failure: Failure) -> Iterator[ImageRef]:
    """Yield an image whose rows are kept; without a version, so that the next run tries again."""
    if failure.has_rows:
        yield ImageRef(failure.key, uri="")


def _choose_shards(
    _: bytes,
    plan: WritePlan,
    changes: Iterable[Changes],
    missing: Iterable[Mapping[str, int]],
    found: Iterable[bytes],
) -> SnapshotWriter:
    return plan.choose_shards(changes, missing, unpack_folders(found))


def _carry_to_shards(
    carried: tuple[int, Mask], plan: WritePlan, writer: SnapshotWriter
) -> Iterator[tuple[int, bytes]]:
    """Yield what is carried from a previous shard, for every shard that some of it goes to."""
    number, mask = carried
    if plan.previous is not None:
        batch = pack_carried(number, mask)
        for shard in shards_between(number, plan.previous.num_shards, writer.info.num_shards):
            yield shard, batch


def _finish(
    writer: SnapshotWriter,
    plan: WritePlan,
    changes: Iterable[Changes],
    failures: Iterable[Failure],
    num_same: int,
    has_changes: bool,
    shards: Iterable[ShardSummary],
) -> str:
    with metrics.Stage(metrics.PUBLISH):
        return plan.finish(writer, changes, failures, num_same, has_changes, shards)
