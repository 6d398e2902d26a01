"""Group the duplicates of a snapshot in tasks that different machines do: what to do, and doing it.

Beam-free, so that it is tested without a pipeline; ``transforms/duplicates.py`` wires it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from featureid.matching.cell_steps import Drawn, NumberedRows, Parts
from featureid.matching.cells import cut_parts, nearest_pivots
from featureid.matching.collection import Collection, joined_collections, read_part
from featureid.matching.duplicates import DuplicateOptions, Group, group_parts
from featureid.matching.parts import Part, PartRows, RowRange, cut, num_rows, whole
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.results import ResultColumn, ResultWriter, Rows

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TaskSizes:
    """How many rows a task has.

    Attributes:
        read: rows that are read at once; 134 MB of 128 dimensions.
        compared: rows of a cell that one worker compares; more are cut into slices.
        written: rows with duplicates whose groups go into one file.
    """

    read: int = 1 << 18
    compared: int = 1 << 17
    written: int = 1 << 17


@dataclass(frozen=True, eq=False)
class Members:
    """Rows that are near others.

    Attributes:
        part: where they are.
        roots: the root of the part of the collection that each of them is in, (m,).
        large: whether that part is cut by the nearest pivots of its rows, (m,).
    """

    part: Part
    roots: Numbers
    large: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class FileRows:
    """Rows whose groups go into one file.

    Attributes:
        numbers: of the rows in the snapshot, (n,).
        parts: two numbers that name the part of each row, (n, 2).
        rows: the rows.
    """

    numbers: Numbers
    parts: Numbers
    rows: Collection


@dataclass(frozen=True)
class DuplicatePlan:
    """What is grouped, and how.

    Attributes:
        folder: of the snapshot.
        options: the threshold, and which image of a group to keep.
        sizes: of tasks.
    """

    folder: str
    options: DuplicateOptions
    sizes: TaskSizes = field(default_factory=TaskSizes)

    def open(self) -> Snapshot:
        """Return the snapshot."""
        return open_snapshot(self.folder)

    def parts_to_read(self) -> list[Part]:
        """Return the parts of the snapshot that are read at once."""
        return cut(whole(self.open().manifest), self.sizes.read)

    def read(self, snapshot: Snapshot, part: Part) -> NumberedRows:
        """Return the rows of a part."""
        rows = PartRows(snapshot, part)
        return NumberedRows(rows.numbers(np.arange(rows.num_rows)), rows.vectors())

    def num_slices(self, rows: int) -> int:
        """Return how many slices a cell with so many rows is cut into."""
        return -(-rows // self.sizes.compared)

    def members(self, snapshot: Snapshot, parts: Parts) -> Iterator[Members]:
        """Yield the rows that are near others, in parts that are read at once."""
        firsts = np.cumsum([0, *(shard.rows for shard in snapshot.manifest.embeddings)])
        ends = np.searchsorted(parts.numbers, firsts)
        ranges = [
            RowRange(
                shard,
                0,
                int(firsts[shard + 1] - firsts[shard]),
                (parts.numbers[start:end] - firsts[shard]).astype(np.int32),
            )
            for shard, (start, end) in enumerate(pairwise(ends.tolist()))
            if start < end
        ]
        large, start = parts.large(), 0
        for part in cut(ranges, self.sizes.read):
            some = slice(start, start + num_rows(part))
            yield Members(part, parts.roots[some], large[some])
            start = some.stop

    def choose_files(self, writer: ResultWriter, parts: Parts) -> ResultWriter:
        """Return the writer of a result with its number of files."""
        num_files = -(-max(1, len(parts.numbers)) // self.sizes.written)
        return replace(writer, info=replace(writer.info, num_files=num_files))

    def read_members(
        self, snapshot: Snapshot, members: Members, drawn: Drawn, num_files: int
    ) -> Iterator[tuple[int, FileRows]]:
        """Yield rows that are near others, by the file that their groups go into."""
        numbers, collection = read_part(snapshot, members.part)
        cells = np.full(len(numbers), -1)
        nearest = nearest_pivots(collection.vectors[members.large], drawn.pivots[0])
        cells[members.large] = nearest[:, 0]
        parts = np.stack([members.roots, cells], axis=1)
        files = (members.roots + cells + 1) % num_files
        for file in np.unique(files).tolist():
            some = np.flatnonzero(files == file)
            yield file, FileRows(numbers[some], parts[some], collection.take(some))

    def results(self, found: Sequence[FileRows]) -> tuple[list[Rows], Counter[str]]:
        """Return the groups of rows in the columns of a result, and what is to be counted.

        Args:
            found: all rows whose groups go into one file, in any order.
        """
        if not found:
            return [], Counter()
        numbers = np.concatenate([some.numbers for some in found])
        order = np.argsort(numbers)
        parts = np.concatenate([some.parts for some in found])[order]
        rows = joined_collections(*(some.rows for some in found)).take(order)
        groups = group_parts(rows, cut_parts(parts[:, 0], parts[:, 1]), self.options)
        columns = _result_rows(groups, rows, numbers[order])
        counts = Counter(groups=len(groups), duplicates=len(columns["key"]) - len(groups))
        return [columns], counts


def _result_rows(groups: Sequence[Group], rows: Collection, numbers: Numbers) -> Rows:
    members = [(group, member) for group in groups for member in group.members]
    places = np.array([member.row for _, member in members], np.intp)
    centers = np.array([group.center for group, _ in members], np.intp)
    kept = np.array([group.keep for group, _ in members], np.intp)
    faces = [rows.faces[place] for place in places.tolist()]
    return {
        "group": numbers[centers],
        "key": [rows.keys[place] for place in places.tolist()],
        **({} if rows.faces[0] is None else {"face": np.array(faces, np.int32)}),
        "score": np.array([member.score for _, member in members], np.float32),
        "keep": places == kept,
        "center": places == centers,
        "identical": np.array([member.identical for _, member in members], np.bool_),
    }


def duplicate_columns(faces: bool) -> tuple[ResultColumn, ...]:
    """Return the columns of groups: a row for each member, those of a group together.

    ``group`` is the number of the row in the snapshot that is its center, ``score`` that with the
    center, and ``identical`` whether the file has the same bytes as the one that is kept.
    """
    return (
        ResultColumn("group", "int64"),
        ResultColumn("key", "text"),
        *([ResultColumn("face", "int32")] if faces else []),
        ResultColumn("score", "float32"),
        ResultColumn("keep", "bool"),
        ResultColumn("center", "bool"),
        ResultColumn("identical", "bool"),
    )
