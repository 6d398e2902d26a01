"""Match the rows of one snapshot with those of another, and publish what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton
from apache_beam.utils.shared import Shared

from featureid.matching.match_plan import Loaded, MatchPlan, Side
from featureid.matching.partial import PartialMatches, merge
from featureid.matching.parts import Part, RowRange
from featureid.matching.tiles import Tile, Tiling
from featureid.storage.results import ResultFile, ResultWriter, write_result_file
from featureid.transforms import metrics
from featureid.transforms.progress import progress_of

# Matches of so many tiles wait before they are merged.
_WAITING = 4
_UNIT = "tasks"


class MatchSnapshots(beam.PTransform):
    """Match the rows of two snapshots, write the matches, and publish them.

    Input: none; apply it to a pipeline.
    Output: ``PCollection[str]``, the folder of the result, once it is published.

    Tasks are small descriptions of what to compare; rows are read where they lie and never travel.
    Workers hold a piece of the smaller side, which they read once while they work on that piece.
    What travels are the best matches of each task.

    Args:
        plan: what is matched, and where the matches go.
        writer: of the result, which has begun.
    """

    def __init__(self, plan: MatchPlan, writer: ResultWriter) -> None:
        super().__init__()
        self._plan = plan
        self._writer = writer

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the matching."""
        plan = self._plan
        once = pipeline | "Once" >> beam.Impulse()
        new = {
            role: self._new_rows(once, role, side)
            for role, side in (("query", plan.query), ("gallery", plan.gallery))
            if side.since
        }
        tile = beam.Map(_tile, plan, self._writer.info.result, **new)
        tiling = once | "Tile" >> tile.with_output_types(Tiling)
        choose = beam.Map(_choose_files, plan, self._writer)
        writer = tiling | "ChooseFiles" >> choose.with_output_types(ResultWriter)
        tiles = tiling | "EachTile" >> beam.FlatMap(_tiles).with_output_types(Tile)
        match = beam.ParDo(_Match(plan, self._writer.info.result), AsSingleton(tiling))
        merged = (
            tiles
            | "Spread" >> beam.Reshuffle()
            | "Match" >> match.with_output_types(tuple[int, PartialMatches])
            | "Merge" >> beam.CombinePerKey(_Merge(plan.k))
        )
        by_file = merged | "ByFile" >> beam.Map(_by_file, AsSingleton(tiling)).with_output_types(
            tuple[int, _Unit]
        )
        # So that a file without matches is written, too.
        empty = writer | "EachFile" >> beam.FlatMap(_empty_files).with_output_types(
            tuple[int, _Unit]
        )
        write = beam.ParDo(_Write(plan), AsSingleton(tiling), AsSingleton(writer))
        written = (
            (by_file, empty)
            | "AllFiles" >> beam.Flatten()
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFiles" >> write.with_output_types(_Written)
        )
        publish = beam.Map(_publish, AsSingleton(tiling), AsIter(written))
        return writer | "Publish" >> publish.with_output_types(str)

    def _new_rows(self, once: beam.PCollection, role: str, side: Side) -> AsIter:
        found = (
            once
            | f"Parts_{role}" >> beam.FlatMap(_parts, side)
            | f"Spread_{role}" >> beam.Reshuffle()
            | f"NewRows_{role}" >> beam.ParDo(_NewRows(side)).with_output_types(RowRange)
        )
        return AsIter(found)


@dataclass(frozen=True)
class _Unit:
    """A unit of queries and their matches; None for no unit."""

    number: int
    matches: PartialMatches | None


@dataclass(frozen=True)
class _Written:
    """A file of results, and what was counted as it was written."""

    file: ResultFile
    counts: Counter[str]


def _parts(_: bytes, side: Side) -> Sequence[Part]:
    return side.parts_to_compare()


def _tile(
    _: bytes,
    plan: MatchPlan,
    run: str,
    query: Iterable[RowRange] | None = None,
    gallery: Iterable[RowRange] | None = None,
) -> Tiling:
    tiling = plan.tile(query, gallery)
    progress_of(run, _UNIT).add(total=tiling.num_tiles)
    return tiling


def _choose_files(tiling: Tiling, plan: MatchPlan, writer: ResultWriter) -> ResultWriter:
    return plan.choose_files(writer, tiling)


def _tiles(tiling: Tiling) -> Iterator[Tile]:
    return tiling.tiles()


def _by_file(unit: tuple[int, PartialMatches], tiling: Tiling) -> tuple[int, _Unit]:
    return tiling.file_of(unit[0]), _Unit(*unit)


def _empty_files(writer: ResultWriter) -> Iterator[tuple[int, _Unit]]:
    for number in range(writer.info.num_files):
        yield number, _Unit(-1, None)


def _publish(writer: ResultWriter, tiling: Tiling, written: Iterable[_Written]) -> str:
    with metrics.Stage(metrics.PUBLISH):
        summaries = [*written]
        counts = Counter(queries=tiling.num_queries, gallery_rows=tiling.num_rows)
        for one in summaries:
            counts.update(one.counts)
        writer.commit([one.file for one in summaries], counts)
    return writer.folder


class _NewRows(beam.DoFn):
    """Find the rows of a part that an older snapshot does not have."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def setup(self) -> None:
        self._snapshots = self._side.open()

    def process(self, part: Part) -> Iterator[RowRange]:
        yield from self._side.new_rows(part, *self._snapshots)


class _Match(beam.DoFn):
    """Search the part of the gallery of a tile for its queries."""

    def __init__(self, plan: MatchPlan, run: str) -> None:
        self._plan = plan
        self._run = run
        self._stage = metrics.Stage(metrics.MATCH)
        # Copies of this DoFn in a process share what they hold.
        self._shared = Shared()

    def setup(self) -> None:
        self._snapshots = self._plan.open()
        self._progress = progress_of(self._run, _UNIT)

    def process(self, tile: Tile, tiling: Tiling) -> Iterator[tuple[int, PartialMatches]]:
        with self._stage:
            yield from self._plan.match(self._snapshots, tiling, tile, self._held)
        self._progress.add(1)

    def _held(self, name: str, load: Callable[[], Loaded]) -> Loaded:
        found: _Holder = self._shared.acquire(lambda: _Holder(load()), tag=name)
        return found.loaded


class _Holder:
    """What a worker holds, as something that can be shared: a tuple cannot."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded


class _Merge(beam.CombineFn):
    """Merge the matches of a unit of queries in different parts of the gallery."""

    def __init__(self, k: int | None) -> None:
        self._k = k

    def create_accumulator(self) -> list[PartialMatches]:
        return []

    def add_input(
        self, waiting: list[PartialMatches], matches: PartialMatches
    ) -> list[PartialMatches]:
        waiting.append(matches)
        return self._merged(waiting)

    def merge_accumulators(
        self, accumulators: Iterable[list[PartialMatches]]
    ) -> list[PartialMatches]:
        return self._merged([matches for waiting in accumulators for matches in waiting])

    def compact(self, waiting: list[PartialMatches]) -> list[PartialMatches]:
        return [merge(waiting, self._k)] if waiting else []

    def extract_output(self, waiting: list[PartialMatches]) -> PartialMatches:
        return merge(waiting, self._k)

    def _merged(self, waiting: list[PartialMatches]) -> list[PartialMatches]:
        """Return matches, merged if most of them would be dropped."""
        if self._k is None or len(waiting) <= _WAITING:
            return waiting
        return self.compact(waiting)


class _Write(beam.DoFn):
    """Write a file of results."""

    def __init__(self, plan: MatchPlan) -> None:
        self._plan = plan
        self._stage = metrics.Stage(metrics.WRITE)

    def setup(self) -> None:
        self._query, _ = self._plan.open()

    def process(
        self, grouped: tuple[int, Iterable[_Unit]], tiling: Tiling, writer: ResultWriter
    ) -> Iterator[_Written]:
        number, found = grouped
        units = sorted(
            ((unit.number, unit.matches) for unit in found if unit.matches is not None),
            key=lambda unit: unit[0],
        )
        with self._stage:
            writer.check_marked()
            batches = (
                self._plan.result_rows(self._query, tiling.units[unit], matches)
                for unit, matches in units
            )
            file = write_result_file(writer.folder, writer.info, number, batches)
        yield _Written(file, self._plan.count(matches for _, matches in units))
