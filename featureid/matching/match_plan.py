"""Match the rows of one snapshot with those of another, tile by tile: what to do, and doing it.

Beam-free, so that it is tested without a pipeline; ``transforms/match.py`` wires it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from featureid.matching.new_rows import new_rows
from featureid.matching.partial import Matrix, PartialMatches, match_part
from featureid.matching.parts import Part, PartRows, RowRange, count_rows, cut, whole
from featureid.matching.tiles import Tile, TileSizes, Tiling, make_tiling
from featureid.storage import layout
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.results import ResultColumn, ResultWriter, Rows

# Rows whose keys and vectors are compared at once with those of an older snapshot.
_COMPARED_ROWS = 1 << 16


@dataclass(frozen=True)
class Side:
    """The rows of a snapshot that are matched.

    Attributes:
        folder: of the snapshot.
        since: folder of an older snapshot; only rows that are new since then. "" for all.
    """

    folder: str
    since: str = ""

    def open(self) -> tuple[Snapshot, Snapshot | None]:
        """Return the snapshot, and the older one, if any."""
        return open_snapshot(self.folder), open_snapshot(self.since) if self.since else None

    def parts_to_compare(self) -> list[Part]:
        """Return the parts in which :meth:`new_rows` looks for new rows."""
        return cut(whole(open_snapshot(self.folder).manifest), _COMPARED_ROWS)

    def new_rows(self, part: Part, snapshot: Snapshot, before: Snapshot | None) -> list[RowRange]:
        """Return what is matched of a part; the snapshots are those of :meth:`open`."""
        return list(part) if before is None else new_rows(snapshot, part, before)

    def ranges(self, new: Iterable[RowRange] | None = None) -> list[RowRange]:
        """Return what is matched.

        Args:
            new: of :meth:`new_rows` for all parts, in any order; None to look for them here.
        """
        if not self.since:
            return whole(open_snapshot(self.folder).manifest)
        if new is None:
            both = self.open()
            new = (
                found for part in self.parts_to_compare() for found in self.new_rows(part, *both)
            )
        return sorted(new, key=lambda range_: range_.place)


@dataclass(frozen=True)
class MatchPlan:
    """What is matched, and what counts as a match.

    Attributes:
        query: the rows that are searched for.
        gallery: the rows that are searched.
        k: how many matches a query has at most; None for all that reach the threshold.
        threshold: the lowest score; None for no limit.
        sizes: how large tasks are.
    """

    query: Side
    gallery: Side
    k: int | None
    threshold: float | None
    sizes: TileSizes = field(default_factory=TileSizes)

    def tile(
        self,
        query: Iterable[RowRange] | None = None,
        gallery: Iterable[RowRange] | None = None,
    ) -> Tiling:
        """Return what is compared in each task.

        Args:
            query: see :meth:`Side.ranges`.
            gallery: likewise.
        """
        ranges = self.query.ranges(query), self.gallery.ranges(gallery)
        return make_tiling(*ranges, self.k, self.sizes)

    def choose_files(self, writer: ResultWriter, tiling: Tiling) -> ResultWriter:
        """Return the writer of a result with its number of files."""
        return replace(writer, info=replace(writer.info, num_files=tiling.num_files))

    def open(self) -> tuple[Snapshot, Snapshot]:
        """Return the snapshots of queries and gallery."""
        return open_snapshot(self.query.folder), open_snapshot(self.gallery.folder)

    def match(
        self, snapshots: tuple[Snapshot, Snapshot], tiling: Tiling, tile: Tile, held: Held
    ) -> Iterator[tuple[int, PartialMatches]]:
        """Yield the numbers of a tile's units of queries that have matches, and these.

        Args:
            snapshots: of :meth:`open`.
            tiling: the tiling.
            tile: one of its tiles.
            held: keeps what the next tile may need as well.
        """
        found = self._searched(*snapshots, tiling, tile, held)
        return ((unit, matches) for unit, matches in found if matches.totals.any())

    def _searched(
        self, query: Snapshot, gallery: Snapshot, tiling: Tiling, tile: Tile, held: Held
    ) -> Iterator[tuple[int, PartialMatches]]:
        part, units = tiling.gallery[tile.gallery], range(tile.first, tile.stop)
        if not tiling.holds_queries:
            rows, vectors = held(f"gallery {tile.gallery}", lambda: load(gallery, part))
            for unit in units:
                _, queries = load(query, tiling.units[unit])
                yield unit, match_part(queries, rows, vectors, self.k, self.threshold)
            return
        _, queries = held(f"queries {tile.first}", lambda: load(query, tiling.queries_of(tile)))
        rows, vectors = load(gallery, part)
        found = match_part(queries, rows, vectors, self.k, self.threshold)
        sizes = [count_rows(query, tiling.units[unit]) for unit in units]
        yield from zip(units, found.split(sizes), strict=True)

    def result_rows(self, query: Snapshot, unit: Part, matches: PartialMatches) -> Rows:
        """Return the matches of a unit of queries in the columns of a result."""
        queries, owners = PartRows(query, unit), matches.owners()
        of_query: dict[str, Any] = {"query": queries.values(layout.KEY, owners)}
        of_match: dict[str, Any] = {"rank": matches.ranks(), "key": matches.keys}
        if matches.faces is not None:
            faces = queries.values(layout.FACE_INDEX, owners)
            of_query["query_face"], of_match["face"] = np.array(faces, np.int32), matches.faces
        return {**of_query, **of_match, "score": matches.scores}

    def count(self, units: Iterable[PartialMatches]) -> Counter[str]:
        """Return how many queries have a match, and how many matches there are."""
        counts = Counter(matched_queries=0, matches=0, cut_off=0)
        for found in units:
            cut_off = 0 if self.threshold is None else int((found.totals - found.counts).sum())
            matched = int(np.count_nonzero(found.counts))
            counts.update(matched_queries=matched, matches=len(found.keys), cut_off=cut_off)
        return counts


#: Rows of a part, and their vectors.
Loaded = tuple[PartRows, Matrix]
#: Name of a part and how to load it -> the same, loaded unless it was the last one.
Held = Callable[[str, Callable[[], Loaded]], Loaded]


def load(snapshot: Snapshot, part: Part) -> Loaded:
    """Read the vectors of a part."""
    rows = PartRows(snapshot, part)
    return rows, rows.vectors()


def match_columns(model: ModelInfo) -> tuple[ResultColumn, ...]:
    """Return the columns of matches: of each row a query, its rank from 1, the match, its score."""
    of_query, of_match = (
        [ResultColumn(name, "int32")] if model.faces else [] for name in ("query_face", "face")
    )
    return (
        ResultColumn("query", "text"),
        *of_query,
        ResultColumn("rank", "int32"),
        ResultColumn("key", "text"),
        *of_match,
        ResultColumn("score", "float32"),
    )
