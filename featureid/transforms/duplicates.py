"""Group the duplicates of a snapshot, and publish the groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from featureid.matching.cell_steps import (
    Assigned,
    Drawn,
    NumberedRows,
    Parts,
    SampledPairs,
    cut_into_slices,
    edges_between,
    edges_of_cell,
    thinned,
)
from featureid.matching.cells import Recall
from featureid.matching.duplicate_plan import DuplicatePlan, FileRows, Members
from featureid.matching.parts import Part
from featureid.storage.results import ResultFile, ResultWriter, write_result_file
from featureid.transforms import metrics
from featureid.transforms.progress import progress_of

# Edges of so many cells wait before they are thinned out.
_WAITING = 64
UNIT = "rows"

#: Pairs of numbers of rows, int64 (2, e).
_Edges = np.ndarray
#: The number of a set of cells, and that of a cell.
_Cell = tuple[int, int]
#: The same, and the numbers of two slices of the cell.
_Slices = tuple[int, int, int, int]


class GroupDuplicates(beam.PTransform):
    """Group the duplicates of a snapshot by cells, write the groups, and publish them.

    Input: none; apply it to a pipeline.
    Output: ``PCollection[str]``, the folder of the result, once it is published.

    Rows are read where they lie, three times: for pivots, to be sent to their cells, and those that
    have duplicates once more. Edges of a spanning forest travel instead of pairs, and one worker
    joins all of them.

    Args:
        plan: what is grouped.
        writer: of the result, which has begun.
    """

    def __init__(self, plan: DuplicatePlan, writer: ResultWriter) -> None:
        super().__init__()
        self._plan = plan
        self._writer = writer

    def expand(self, pipeline: beam.pvalue.PBegin) -> beam.PCollection:
        """Wire the grouping."""
        once = pipeline | "Once" >> beam.Impulse()
        list_parts = beam.FlatMap(_list_parts, self._plan).with_output_types(Part)
        to_read = once | "ListParts" >> list_parts | "Spread" >> beam.Reshuffle()
        draw = beam.ParDo(_Draw(self._plan)).with_output_types(Drawn)
        drawn = AsSingleton(
            to_read | "Draw" >> draw | "JoinDrawn" >> beam.CombineGlobally(_JoinDrawn())
        )
        assign = beam.ParDo(_Assign(self._plan, self._writer.info.result), drawn)
        assigned = to_read | "Assign" >> assign.with_output_types(
            tuple[_Cell, NumberedRows], edges=_Edges, pairs=SampledPairs
        ).with_outputs("edges", "pairs", main="rows")
        edges = (assigned.edges, *self._edges_of_cells(assigned.rows))
        parts = (
            edges
            | "EveryEdge" >> beam.Flatten()
            | "JoinEdges" >> beam.CombineGlobally(_JoinEdges()).with_output_types(Parts)
        )
        pairs = assigned.pairs | "JoinPairs" >> beam.CombineGlobally(_JoinPairs())
        recall = parts | "Recall" >> beam.Map(Parts.recall, AsSingleton(pairs))
        choose = beam.Map(_choose_files, self._plan, self._writer).with_output_types(ResultWriter)
        writer = parts | "ChooseFiles" >> choose
        rows = self._rows_of_files(parts, drawn, writer)
        write = beam.ParDo(_Write(self._plan), AsSingleton(writer)).with_output_types(_Written)
        written = rows | "GroupByFile" >> beam.GroupByKey() | "WriteFiles" >> write
        publish = beam.Map(_publish, AsIter(written), AsSingleton(recall), self._plan)
        return writer | "Publish" >> publish.with_output_types(str)

    def _edges_of_cells(self, rows: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Return the edges of cells, and those of cells that are too large for one worker."""
        threshold = self._plan.options.threshold
        compare = beam.ParDo(_CompareCell(self._plan)).with_output_types(
            _Edges, slices=tuple[_Slices, tuple[int, NumberedRows]]
        )
        compared = (
            rows
            | "GroupByCell" >> beam.GroupByKey()
            | "CompareCells" >> compare.with_outputs("slices", main="edges")
        )
        of_slices = beam.FlatMap(_compare_slices, threshold).with_output_types(_Edges)
        crowded = (
            compared.slices | "GroupBySlices" >> beam.GroupByKey() | "CompareSlices" >> of_slices
        )
        return compared.edges, crowded

    def _rows_of_files(
        self, parts: beam.PCollection, drawn: AsSingleton, writer: beam.PCollection
    ) -> beam.PCollection:
        """Return all rows that are near others, by the file that they go into."""
        members = beam.FlatMap(_members, self._plan).with_output_types(Members)
        read = beam.ParDo(_ReadMembers(self._plan), drawn, AsSingleton(writer))
        found = (
            parts
            | "Members" >> members
            | "SpreadMembers" >> beam.Reshuffle()
            | "ReadMembers" >> read.with_output_types(tuple[int, FileRows | None])
        )
        # So that a file without groups is written, too.
        each = beam.FlatMap(_empty_files).with_output_types(tuple[int, FileRows | None])
        return (found, writer | "EachFile" >> each) | "AllFiles" >> beam.Flatten()


@dataclass(frozen=True)
class _Written:
    """A file of results, and what was counted as it was written."""

    file: ResultFile
    counts: Counter[str]


def _list_parts(_: bytes, plan: DuplicatePlan) -> list[Part]:
    return plan.parts_to_read()


def _members(parts: Parts, plan: DuplicatePlan) -> Iterator[Members]:
    return plan.members(plan.open(), parts)


def _choose_files(parts: Parts, plan: DuplicatePlan, writer: ResultWriter) -> ResultWriter:
    return plan.choose_files(writer, parts)


def _empty_files(writer: ResultWriter) -> Iterator[tuple[int, None]]:
    for number in range(writer.info.num_files):
        yield number, None


def _compare_slices(
    grouped: tuple[_Slices, Iterable[tuple[int, NumberedRows]]], threshold: float
) -> Iterator[_Edges]:
    (_, _, one, other), batches = grouped
    rows: dict[int, list[NumberedRows]] = {one: [], other: []}
    for number, batch in batches:
        rows[number].append(batch)
    slices = [NumberedRows.joined(rows[number]) for number in rows if rows[number]]
    if one == other:
        yield edges_of_cell(slices[0], threshold)
    elif len(slices) == 2:
        yield edges_between(slices[0], slices[1], threshold)


def _publish(
    writer: ResultWriter, written: Iterable[_Written], recall: Recall, plan: DuplicatePlan
) -> str:
    with metrics.Stage(metrics.PUBLISH):
        summaries = [*written]
        counts = sum((one.counts for one in summaries), Counter(rows=plan.open().num_rows))
        writer.commit(
            [one.file for one in summaries],
            {
                **dict.fromkeys(("rows", "groups", "duplicates"), 0),
                **counts,
                "sampled_pairs": recall.pairs,
                "sampled_pairs_found": recall.found,
            },
        )
    return writer.folder


class _Draw(beam.DoFn):
    """Draw pivots and the sample from the rows of a part."""

    def __init__(self, plan: DuplicatePlan) -> None:
        self._plan = plan

    def setup(self) -> None:
        self._snapshot = self._plan.open()

    def process(self, part: Part) -> Iterator[Drawn]:
        yield Drawn.of(self._plan.read(self._snapshot, part), self._snapshot.num_rows)


class _Assign(beam.DoFn):
    """Send the rows of a part to their cells."""

    def __init__(self, plan: DuplicatePlan, run: str) -> None:
        self._plan = plan
        self._run = run

    def setup(self) -> None:
        self._snapshot = self._plan.open()
        self._progress = progress_of(self._run, UNIT)

    def process(
        self, part: Part, drawn: Drawn
    ) -> Iterator[tuple[_Cell, NumberedRows] | TaggedOutput]:
        assigned = Assigned.of(self._plan.read(self._snapshot, part), drawn)
        yield TaggedOutput("edges", assigned.edges)
        yield TaggedOutput("pairs", assigned.sampled_pairs(drawn, self._plan.options.threshold))
        yield from assigned.by_cell()
        self._progress.add(len(assigned.rows) + assigned.edges.shape[1])


class _CompareCell(beam.DoFn):
    """Find the edges of a cell, or cut it into slices that are compared apart from each other."""

    def __init__(self, plan: DuplicatePlan) -> None:
        self._plan = plan

    def process(
        self, grouped: tuple[_Cell, Iterable[NumberedRows]]
    ) -> Iterator[_Edges | TaggedOutput]:
        cell, batches = grouped
        slices = self._plan.num_slices(sum(map(len, batches)))
        if slices == 1:
            yield edges_of_cell(NumberedRows.joined([*batches]), self._plan.options.threshold)
            return
        for number, rows in cut_into_slices(batches, slices):
            for other in range(slices):
                key = (*cell, min(number, other), max(number, other))
                yield TaggedOutput("slices", (key, (number, rows)))


class _ReadMembers(beam.DoFn):
    """Read rows that are near others."""

    def __init__(self, plan: DuplicatePlan) -> None:
        self._plan = plan

    def setup(self) -> None:
        self._snapshot = self._plan.open()

    def process(
        self, members: Members, drawn: Drawn, writer: ResultWriter
    ) -> Iterator[tuple[int, FileRows]]:
        num_files = writer.info.num_files
        yield from self._plan.read_members(self._snapshot, members, drawn, num_files)


class _Write(beam.DoFn):
    """Group the rows of a file, and write their groups."""

    def __init__(self, plan: DuplicatePlan) -> None:
        self._plan = plan
        self._stage = metrics.Stage(metrics.WRITE)

    def process(
        self, grouped: tuple[int, Iterable[FileRows | None]], writer: ResultWriter
    ) -> Iterator[_Written]:
        number, found = grouped
        with self._stage:
            writer.check_marked()
            some = [rows for rows in found if rows is not None]
            batches, counts = self._plan.results(some)
            file = write_result_file(writer.folder, writer.info, number, batches)
        yield _Written(file, counts)


class _JoinDrawn(beam.CombineFn):
    """Join what is drawn from all parts."""

    def create_accumulator(self) -> list[Drawn]:
        return []

    def add_input(self, held: list[Drawn], drawn: Drawn) -> list[Drawn]:
        return [*held, drawn]

    def merge_accumulators(self, accumulators: Iterable[list[Drawn]]) -> list[Drawn]:
        return [drawn for held in accumulators for drawn in held]

    def extract_output(self, held: list[Drawn]) -> Drawn:
        return Drawn.joined(held)


class _JoinPairs(beam.CombineFn):
    """Join the pairs of the sample."""

    def create_accumulator(self) -> list[SampledPairs]:
        return []

    def add_input(self, held: list[SampledPairs], pairs: SampledPairs) -> list[SampledPairs]:
        return [*held, pairs]

    def merge_accumulators(self, accumulators: Iterable[list[SampledPairs]]) -> list[SampledPairs]:
        return [pairs for held in accumulators for pairs in held]

    def extract_output(self, held: list[SampledPairs]) -> SampledPairs:
        return SampledPairs.joined(held)


class _JoinEdges(beam.CombineFn):
    """Join the edges of all cells; those that are held connect as many rows, but are few."""

    def create_accumulator(self) -> list[_Edges]:
        return []

    def add_input(self, held: list[_Edges], edges: _Edges) -> list[_Edges]:
        held.append(edges)
        return held if len(held) < _WAITING else self.compact(held)

    def merge_accumulators(self, accumulators: Iterable[list[_Edges]]) -> list[_Edges]:
        return self.compact([edges for held in accumulators for edges in held])

    def compact(self, held: list[_Edges]) -> list[_Edges]:
        return [thinned(_concatenated(held))]

    def extract_output(self, held: list[_Edges]) -> Parts:
        return Parts.of(_concatenated(held))


def _concatenated(held: list[_Edges]) -> _Edges:
    return np.concatenate([np.empty((2, 0), np.int64), *held], axis=1)
