"""Cut a match of two snapshots into tiles: some queries with a part of the gallery, one per task.

A worker holds the smaller side of its tile, and reads the other where it lies. Each side is read
once for each piece of the other, so that tiles are as large as memory allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from featureid.matching.parts import Part, RowRange, cut, joined, num_rows


@dataclass(frozen=True)
class TileSizes:
    """How large tiles are; what is found does not depend on it.

    Attributes:
        unit: queries whose matches are merged together, and travel together.
        held: rows of the smaller side that a worker holds; by default 67 MB of 128 dimensions.
        tile: rows of the larger side in a tile; by default 134 MB. Each query costs a search of
            them as much as some 10,000 rows do, so that fewer rows would take longer.
        tiles: the least number of tiles, if there are enough queries, so that workers share them.
        file: matches in a file of results, some 20 MB.
    """

    unit: int = 1 << 12
    held: int = 1 << 17
    tile: int = 1 << 18
    tiles: int = 32
    file: int = 1_000_000


@dataclass(frozen=True)
class Tile:
    """What one task compares.

    Attributes:
        first: number of the first unit of queries,
        stop: and the one after the last.
        gallery: number of the part of the gallery.
    """

    first: int
    stop: int
    gallery: int


@dataclass(frozen=True, eq=False)
class Tiling:
    """The parts of two snapshots, and which of them are compared in one task.

    Attributes:
        units: the queries, in parts of a few thousand.
        gallery: the parts of the gallery.
        holds_queries: whether workers hold queries, as there are fewer of them; otherwise they
            hold a part of the gallery.
        units_per_tile: how many units a tile has.
        units_per_file: how many units share a file of results.
    """

    units: tuple[Part, ...]
    gallery: tuple[Part, ...]
    holds_queries: bool
    units_per_tile: int
    units_per_file: int

    @cached_property
    def num_queries(self) -> int:
        """Number of all queries."""
        return sum(map(num_rows, self.units))

    @cached_property
    def num_rows(self) -> int:
        """Number of all rows of the gallery."""
        return sum(map(num_rows, self.gallery))

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return -(-len(self.units) // self.units_per_tile) * len(self.gallery)

    @property
    def num_files(self) -> int:
        """Number of files of results, at least 1."""
        return max(1, -(-len(self.units) // self.units_per_file))

    def file_of(self, unit: int) -> int:
        """Return the number of the file that holds the matches of a unit."""
        return unit // self.units_per_file

    def tiles(self) -> Iterator[Tile]:
        """Yield all tiles."""
        for first in range(0, len(self.units), self.units_per_tile):
            stop = min(first + self.units_per_tile, len(self.units))
            for number in range(len(self.gallery)):
                yield Tile(first, stop, number)

    def queries_of(self, tile: Tile) -> Part:
        """Return the queries of a tile."""
        return joined(self.units[tile.first : tile.stop])


def make_tiling(
    queries: Sequence[RowRange], gallery: Sequence[RowRange], k: int | None, sizes: TileSizes
) -> Tiling:
    """Return the parts of two snapshots, and their tiles.

    Args:
        queries: the queries.
        gallery: the rows that are searched.
        k: how many matches a query has at most; None for all that reach a threshold.
        sizes: of the tiles.
    """
    num_queries, rows = num_rows(queries), num_rows(gallery)
    holds_queries = num_queries <= rows
    query_rows, part_rows = sizes.held, sizes.tile
    if not holds_queries:
        query_rows, part_rows = part_rows, query_rows
    units, parts = cut(queries, sizes.unit), cut(gallery, part_rows)
    shared = len(units) * len(parts) // sizes.tiles
    # If only a threshold limits the matches, there are few.
    file_queries = sizes.file // (k or 1)
    return Tiling(
        units=tuple(units),
        gallery=tuple(parts),
        holds_queries=holds_queries,
        units_per_tile=max(1, min(query_rows // sizes.unit, shared)),
        units_per_file=max(1, file_queries // sizes.unit),
    )
