"""List the images of all inputs, each key once, and decide what a run has to do with each."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsList, TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from featureid.inputs import ImageRef, InputSource, list_source
from featureid.refresh import Planner
from featureid.storage.records import Failure
from featureid.transforms import metrics
from featureid.transforms.batches import Batcher, pack, unpack
from featureid.transforms.progress import progress_of

# Records that wait to be sent, of all partitions together: some 10 MB.
_WAITING = 65_536
# Paths repeat: even the fastest level reduces them to a fifth.
_LEVEL = 1


class ListImages(beam.PTransform):
    """List the images of all inputs and decide for each whether it is embedded or carried over.

    Input: ``PCollection[InputSource]``.
    Output: a mapping with

    - ``images``, a ``PCollection[ImageRef]`` of unique keys, to be embedded;
    - ``compare``, a ``PCollection[Comparison]``, to be embedded if their content has changed;
    - ``unlisted``, a ``PCollection[Failure]``: folders that cannot be listed;
    - ``failures``, a ``PCollection[Failure]``: known failures that are carried over;
    - ``carried``, a ``PCollection[tuple[int, numpy.ndarray]]``: number of a previous shard, and
      (rows,) bool, the rows that are carried over;
    - ``changes``, a ``PCollection[Changes]``, one for each partition of the keys, to be added up;
    - ``missing``, a ``PCollection[Mapping[str, int]]``: folder -> number of images that are gone,
      to be added up;
    - ``found``, a ``PCollection[bytes]``, folders that have images, as :func:`unpack_folders` reads
      them; with a previous snapshot only.

    Args:
        planner: compares the inputs with the previous snapshot, if any.
        run: a unique name of the run, for its progress.
    """

    def __init__(self, planner: Planner, run: str) -> None:
        super().__init__()
        self._planner = planner
        self._run = run

    def expand(self, sources: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the listing."""
        planner = self._planner
        listed = sources | "List" >> beam.ParDo(_List(planner, self._run)).with_outputs(
            "failures", "found", main="batches"
        )
        batches = [listed.batches]
        if planner.previous is not None:
            once = sources.pipeline | "Previous" >> beam.Impulse()
            batches.append(once | "PreviousFailures" >> beam.FlatMap(_known_failures, planner))
        planned = (
            batches
            | "AllBatches" >> beam.Flatten()
            | "GroupByPartition" >> beam.GroupByKey()
            | "Plan"
            >> beam.ParDo(_Plan(planner, self._run), AsList(listed.failures)).with_outputs(
                "compare", "carried", "failures", "changes", "missing", main="images"
            )
        )
        return {
            "images": planned.images,
            "compare": planned.compare,
            "carried": planned.carried,
            "unlisted": listed.failures,
            "failures": planned.failures,
            "changes": planned.changes,
            "missing": planned.missing,
            "found": listed.found,
        }


def unpack_folders(packed: Iterable[bytes]) -> Iterator[str]:
    """Yield the folders of ``found`` of :class:`ListImages`."""
    for folders in packed:
        yield from unpack(zlib.decompress(folders))


def _known_failures(_: bytes, planner: Planner) -> Iterator[tuple[int, bytes]]:
    """Yield the previous failures, a batch for every partition, so that each one is planned."""
    for partition, failures in enumerate(planner.known_failures()):
        yield partition, zlib.compress(pack(failures), _LEVEL)


class _List(beam.DoFn):
    def __init__(self, planner: Planner, run: str) -> None:
        self._planner = planner
        self._run = run
        self._stage = metrics.Stage(metrics.LIST)

    def setup(self) -> None:
        self._progress = progress_of(self._run)

    def start_bundle(self) -> None:
        self._batcher = Batcher(_WAITING)
        self._found: set[str | None] = set()

    def process(self, source: InputSource) -> Iterator[tuple[int, bytes] | TaggedOutput]:
        with self._stage:
            for item in list_source(source):
                if self._planner.previous is not None:
                    self._found.add(self._planner.found_folder(item))
                if isinstance(item, Failure):
                    yield TaggedOutput("failures", item)
                    continue
                if self._batcher.add(self._planner.partition_of(item.key), item):
                    yield from self._take()

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        for batch in self._take():
            yield GlobalWindows.windowed_value(batch)
        folders = zlib.compress(pack(sorted(self._found - {None})), _LEVEL)
        yield TaggedOutput("found", GlobalWindows.windowed_value(folders))

    def _take(self) -> Iterator[tuple[int, bytes]]:
        metrics.count(metrics.LISTED, self._batcher.count)
        self._progress.add(listed=self._batcher.count)
        for partition, batch in self._batcher.take():
            yield partition, zlib.compress(batch, _LEVEL)


class _Plan(beam.DoFn):
    def __init__(self, planner: Planner, run: str) -> None:
        self._planner = planner
        self._run = run
        self._stage = metrics.Stage(metrics.PLAN)

    def setup(self) -> None:
        self._progress = progress_of(self._run)

    def process(
        self, batched: tuple[int, Iterable[bytes]], unlisted: list[Failure]
    ) -> Iterator[ImageRef | TaggedOutput]:
        partition, batches = batched
        with self._stage:
            items = [item for batch in batches for item in unpack(zlib.decompress(batch))]
            refs = [item for item in items if isinstance(item, ImageRef)]
            failures = [item for item in items if isinstance(item, Failure)]
            folders = [failure.key for failure in unlisted]
            plan = self._planner.plan(partition, refs, failures, folders)
        self._progress.add(total=len(plan.embed) + len(plan.compare))
        for name, number in plan.changes.to_dict().items():
            metrics.count(name, number)
        yield from plan.embed
        for compared in plan.compare:
            yield TaggedOutput("compare", compared)
        for failure in plan.failures:
            yield TaggedOutput("failures", failure)
        if np.any(plan.carry):
            yield TaggedOutput("carried", (partition, plan.carry))
        yield TaggedOutput("changes", plan.changes)
        if plan.missing:
            yield TaggedOutput("missing", plan.missing)
