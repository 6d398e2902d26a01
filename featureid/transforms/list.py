"""List the images of all inputs, each key once, and tell what a run has to do with each."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from featureid.inputs import ImageRef, InputSource, list_source
from featureid.refresh import PreviousPart, RefreshPolicy, plan_part
from featureid.storage.carry import read_row_index
from featureid.storage.reader import Snapshot
from featureid.storage.records import Failure
from featureid.storage.shard import shard_of
from featureid.transforms import metrics
from featureid.transforms.batches import Packer, pack, unpack
from featureid.transforms.progress import progress_of

# Into how many parts the keys fall where there is no previous snapshot to say so.
_PARTS = 1024
# What waits to be packed, of all parts together: some 10 MB.
_WAITING = 65_536
# Paths repeat: even the fastest level makes them a fifth.
_LEVEL = 1


class ListImages(beam.PTransform):
    """Input sources to image references, and to what is carried over from the previous snapshot.

    Input: ``PCollection[InputSource]``.
    Output: a mapping with

    - ``images``, a ``PCollection[ImageRef]`` of unique keys, to be embedded;
    - ``compare``, a ``PCollection[Comparison]``, to be embedded if their content has changed;
    - ``unlisted``, a ``PCollection[Failure]``: folders that could not be listed;
    - ``failures``, a ``PCollection[Failure]``: known failures that are carried over;
    - ``carried``, a ``PCollection[tuple[int, numpy.ndarray]]``: number of a previous shard, and
      (rows,) bool, the rows that are carried over;
    - ``changes``, a ``PCollection[Changes]``, one for each part of the keys, to be added up.

    Args:
        previous: the snapshot to carry from, if any.
        policy: what counts as unchanged.
        run: a unique name of the run, for its progress.
    """

    def __init__(self, previous: Snapshot | None, policy: RefreshPolicy, run: str) -> None:
        super().__init__()
        self._run = run
        self._previous = previous
        self._policy = policy

    def expand(self, sources: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the listing."""
        parts = self._previous.num_shards if self._previous is not None else _PARTS
        listed = sources | "List" >> beam.ParDo(_List(parts, self._run)).with_outputs(
            "failures", main="packs"
        )
        packs = [listed.packs]
        if self._previous is not None:
            once = sources.pipeline | "Previous" >> beam.Impulse()
            packs.append(once | "PreviousFailures" >> beam.FlatMap(_pack_failures, self._previous))
        planned = (
            packs
            | "AllPacks" >> beam.Flatten()
            | "GroupByPart" >> beam.GroupByKey()
            | "Plan"
            >> beam.ParDo(
                _Plan(self._previous, self._policy), AsList(listed.failures)
            ).with_outputs("compare", "carried", "failures", "changes", main="images")
        )
        return {
            "images": planned.images,
            "compare": planned.compare,
            "carried": planned.carried,
            "unlisted": listed.failures,
            "failures": planned.failures,
            "changes": planned.changes,
        }


def _pack_failures(_: bytes, previous: Snapshot) -> Iterator[tuple[int, bytes]]:
    """The previous failures by part; one pack for every part, that none is left out."""
    by_part: defaultdict[int, list[Failure]] = defaultdict(list)
    for failure in previous.failures():
        by_part[part_of(failure.key, previous.num_shards)].append(failure)
    for part in range(previous.num_shards):
        yield part, zlib.compress(pack(by_part[part]), _LEVEL)


def part_of(key: str, parts: int) -> int:
    """The part that a key belongs to: that of its shard.

    The key of a failure may be no valid Unicode and belong to no shard; any fixed part will do.
    """
    return shard_of(key.encode("utf-8", "backslashreplace").decode(), parts)


class _List(beam.DoFn):
    def __init__(self, parts: int, run: str) -> None:
        self._parts = parts
        self._run = run
        self._stage = metrics.Stage(metrics.LIST)

    def setup(self) -> None:
        self._progress = progress_of(self._run)

    def start_bundle(self) -> None:
        self._packer = Packer(_WAITING)

    def process(self, source: InputSource) -> Iterator[tuple[int, bytes] | TaggedOutput]:
        with self._stage:
            for item in list_source(source):
                if isinstance(item, Failure):
                    yield TaggedOutput("failures", item)
                    continue
                if self._packer.add(part_of(item.key, self._parts), item):
                    yield from self._pack()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for packed in self._pack():
            yield GlobalWindows.windowed_value(packed)

    def _pack(self) -> Iterator[tuple[int, bytes]]:
        metrics.count(metrics.LISTED, self._packer.count)
        self._progress.add(listed=self._packer.count)
        for part, packed in self._packer.take():
            yield part, zlib.compress(packed, _LEVEL)


class _Plan(beam.DoFn):
    def __init__(self, previous: Snapshot | None, policy: RefreshPolicy) -> None:
        self._previous = previous
        self._policy = policy
        self._stage = metrics.Stage(metrics.PLAN)

    def process(
        self, packed: tuple[int, Iterable[bytes]], unlisted: list[Failure]
    ) -> Iterator[ImageRef | TaggedOutput]:
        part, packs = packed
        with self._stage:
            items = [item for pack in packs for item in unpack(zlib.decompress(pack))]
            refs = [item for item in items if isinstance(item, ImageRef)]
            failures = [item for item in items if isinstance(item, Failure)]
            known = self._known(part, failures)
            plan = plan_part(refs, known, self._policy, [failure.key for failure in unlisted])
        for name, number in plan.changes.to_dict().items():
            metrics.count(name, number)
        yield from plan.embed
        for compared in plan.compare:
            yield TaggedOutput("compare", compared)
        for failure in plan.failures:
            yield TaggedOutput("failures", failure)
        if np.any(plan.carry):
            yield TaggedOutput("carried", (part, plan.carry))
        yield TaggedOutput("changes", plan.changes)

    def _known(self, part: int, failures: list[Failure]) -> PreviousPart:
        if self._previous is None:
            return PreviousPart()
        index = read_row_index(self._previous.shard(part), digests=self._policy.check == "content")
        return PreviousPart(index.keys, index.versions, index.digests, failures)
