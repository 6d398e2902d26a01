"""Galleries: the vectors of one or several snapshots, to be searched."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.html_table import SHOWN_ROWS, html_table
from featureid.matching.candidates import nearest
from featureid.matching.cohort import Cohort
from featureid.matching.exact import Found, search_above, search_among, search_top
from featureid.matching.hashes import Hashes
from featureid.matching.index import Index
from featureid.matching.index_file import read_index
from featureid.matching.recall import Recall
from featureid.matching.scores import (
    check_comparable,
    check_queries,
    pair_scores,
    query_vectors,
    row_vectors,
)
from featureid.matching.single import HeldRows, SingleQueries
from featureid.storage import layout
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.selection import Selection

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
SnapshotLike = Snapshot | str | os.PathLike[str]

DEFAULT_K = 10
# Rows that are fetched beyond k by an index, whose scores may be a little different.
_MORE = 6


@dataclass(frozen=True, slots=True)
class Match:
    """A row of a gallery that is like a query.

    Attributes:
        key: image key.
        score: see :mod:`featureid.matching.scores`.
        face: index of the face in its image; None for a whole image.
        snapshot: number of its snapshot in the gallery.
        row: number of its row in the gallery.
    """

    key: str
    score: float
    face: int | None
    snapshot: int
    row: int

    @property
    def order(self) -> tuple[float, str, int]:
        """What matches are sorted by: score, highest first, then key, then row."""
        return -self.score, self.key, self.row


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of one query, best first.

    Attributes:
        hits: the matches.
        total: how many there are with those that ``k`` has cut off.
    """

    hits: tuple[Match, ...]
    total: int


class KeysAndScores(NamedTuple):
    """What :meth:`Gallery.search` returns: two lists with one item per query.

    Attributes:
        keys: image keys, best first.
        scores: their scores, float32 (h,).
    """

    keys: list[list[str]]
    scores: list[Matrix]

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the best matches of the first queries."""
        rows = (
            (query, key, float(score))
            for query, (keys, scores) in enumerate(zip(*self, strict=True))
            for key, score in zip(keys, scores, strict=True)
        )
        left = sum(map(len, self.keys)) - SHOWN_ROWS
        note = f"and {left} more" if left > 0 else ""
        return html_table(islice(rows, SHOWN_ROWS), ("query", "key", "score"), note)


class Gallery:
    """The vectors of one or several snapshots of one model, to be searched exactly.

    >>> gallery = featureid.Gallery("out/")
    >>> keys, scores = gallery.search(queries, k=10)      # queries: (n, 128), of unit length

    The answers are those of the definition in :mod:`featureid.matching.scores`, bit for bit,
    whatever the number of queries, threads, shards or snapshots.

    Args:
        snapshots: a snapshot, a path or URI of one or of an output folder, or several of them.
        prefix: take only rows whose keys start with it; they alone are read.
        stream: read the vectors from the files in every search, and hold some 65,536 rows at a
            time instead of all; for galleries that are larger than memory, and for a single search.
        index: search by the indexes that ``featureid index`` has made: not all rows are found that
            exact search finds, see :meth:`recall`, but their scores are exact.
        cohort: what all scores are corrected by, see :mod:`featureid.matching.cohort`; None for
            plain scores.
        threads: blocks to read at the same time; 0 means one per CPU core.
        progress: called with the number of rows that are held.

    Attributes:
        model: the model of all vectors.
        num_rows: number of rows.

    Raises:
        UsageError: no snapshot is given; a snapshot has no index, or there is a prefix or a cohort
            with it.
        MixedModelsError: the models of the snapshots differ.
        StorageError: a snapshot is missing, damaged or cannot be read.
    """

    def __init__(
        self,
        snapshots: SnapshotLike | Iterable[SnapshotLike],
        prefix: str = "",
        *,
        stream: bool = False,
        index: bool = False,
        cohort: Cohort | None = None,
        threads: int = 0,
        progress: Callable[[int], Any] = lambda rows: None,
    ) -> None:
        if isinstance(snapshots, Snapshot | str | os.PathLike):
            snapshots = [snapshots]
        self.snapshots = [_opened(snapshot) for snapshot in snapshots]
        if not self.snapshots:
            raise UsageError("a gallery needs at least one snapshot")
        first = self.snapshots[0]
        for other in self.snapshots[1:]:
            check_comparable(first.model, first.folder, other.model, other.folder)
        self.model: ModelInfo = first.model
        self._threads = threads
        self._selections = [Selection(snapshot, prefix) for snapshot in self.snapshots]
        sizes = [selection.num_rows for selection in self._selections]
        self._first_rows = [*accumulate(sizes, initial=0)]
        self.num_rows = self._first_rows[-1]
        if index and prefix:
            raise UsageError("an `index` is of whole snapshots; leave out `index` or `prefix`")
        if index and cohort is not None:
            raise UsageError(
                "an `index` finds rows by plain scores; leave it out, or take a calibration "
                "without a cohort"
            )
        self._indexes = [read_index(snapshot) for snapshot in self.snapshots] if index else []
        self._cohort = cohort
        # Those of all rows, NaN where they are not known yet.
        self._corrections = np.full(self.num_rows if cohort else 0, np.nan, np.float32)
        self._vectors: list[Matrix] | None = None
        if not stream:
            self._vectors = [self._held(number, progress) for number in range(len(self.snapshots))]
        # Bounds hold for vectors of unit length, which those with corrections are not.
        self._single = None if stream or cohort else SingleQueries()

    def search(
        self, vectors: npt.NDArray[Any], k: int | None = DEFAULT_K, threshold: float | None = None
    ) -> KeysAndScores:
        """Return the keys and scores of the rows that are most like each query.

        Args:
            vectors: floats (n, dimension) of unit length, or (dimension,) for one query.
            k: how many rows at most; None for all that reach the threshold.
            threshold: the lowest score; None for no limit.

        Raises:
            UsageError: an argument is out of range; neither ``k`` nor ``threshold`` is given.
        """
        found = self.matches(vectors, k, threshold)
        return KeysAndScores(
            [[hit.key for hit in matches.hits] for matches in found],
            [np.array([hit.score for hit in matches.hits], np.float32) for matches in found],
        )

    def matches(
        self, vectors: npt.NDArray[Any], k: int | None = DEFAULT_K, threshold: float | None = None
    ) -> list[Matches]:
        """Return what :meth:`search` does, for each query its matches with all that is known."""
        queries = check_queries(vectors, self.model.dimension)
        if k is None and threshold is None:
            raise UsageError("give `k`, `threshold`, or both")
        if k is not None and k < 1:
            raise UsageError(f"`k` is {k}; give 1 or more")
        if threshold is not None and not -1 <= threshold <= 1:
            raise UsageError(f"`threshold` is {threshold}; a score is from -1 to 1")
        if self._cohort is not None:
            queries = query_vectors(queries, self._cohort.corrections(queries))
        lowest = np.full(len(queries), -2 if threshold is None else threshold, np.float32)
        if self.uses_index(k, threshold):
            pairs = self._candidates(queries, k, threshold)
            found = search_among(queries, pairs, self._vectors_of, lowest, k, self._sort_keys)
            if threshold is None:  # what counts is the order alone: all rows match
                found = [replace(matches, total=self.num_rows) for matches in found]
        elif threshold is not None:
            found = search_above(queries, self._blocks, lowest, k, self._sort_keys)
        else:
            assert k is not None
            if self._single is not None and len(queries) == 1:
                rows = HeldRows(self._blocks, self.num_rows, self._vectors_of, self._sort_keys)
                found = [self._single.search(queries, k, rows)]
            else:
                found = search_top(queries, self._blocks, k, self._sort_keys)
        return self._described(found)

    def uses_index(self, k: int | None = DEFAULT_K, threshold: float | None = None) -> bool:
        """Return whether a search uses the indexes; otherwise it is exact.

        It does if they have found what was wanted of them when they were made: for a threshold all
        of them; else at least one, and if the vectors are held in memory.
        """
        serve = [index.serves(k, threshold) for index in self._indexes]
        if threshold is not None:
            return bool(serve) and all(serve)
        return self._vectors is not None and any(serve)

    def has_index_for(self, threshold: float | None = None) -> bool:
        """Return whether the indexes are for searches by a threshold, or for those without one."""
        return bool(self._indexes) and all(index.is_for(threshold) for index in self._indexes)

    def recall(self, k: int | None = DEFAULT_K, threshold: float | None = None) -> Recall | None:
        """Return the measured recall of the indexes in such a search, the lowest of all.

        None if there is none, or if it could not be measured: too few rows are near each other, a
        snapshot is so small that it is searched exactly, or ``k`` is more than 100.
        """
        recalls = [index.recall(k, threshold) for index in self._indexes]
        known = [recall for recall in recalls if recall is not None]
        if threshold is not None and len(known) < len(recalls):
            return None
        return min(known, key=lambda recall: recall.share, default=None)

    def match(self, vector: Matrix, row: int) -> Match:
        """Return a row, whatever it scores, as a match of a query, float32 (dimension,)."""
        if self._cohort is not None:
            vector = query_vectors(vector, self._cohort.corrections(vector[np.newaxis])[0])
        scores = pair_scores(vector, self._vectors_of(np.array([row])))
        (matches,) = self._described([Found(np.array([row]), scores, 1)])
        return matches.hits[0]

    @property
    def has_hashes(self) -> bool:
        """Whether rows have perceptual hashes."""
        return any(snapshot.model.hash for snapshot in self.snapshots)

    def hashes(self) -> Hashes:
        """Return the perceptual hashes of all rows; some or all may have none."""
        return Hashes.joined(Hashes.read(selection) for selection in self._selections)

    def count(self, key: str) -> int:
        """Return how many rows have a key: several if an image has faces or snapshots share it."""
        return sum(selection.count(key) for selection in self._selections)

    def _blocks(self) -> Iterator[Matrix]:
        if self._vectors is not None:
            yield from self._vectors
            return
        for number in range(len(self.snapshots)):
            yield from self._blocks_of(number)

    def _blocks_of(self, number: int) -> Iterator[Matrix]:
        """Yield the rows of a snapshot, with their corrections, which are computed only once."""
        first = self._first_rows[number]
        for block in self._selections[number].batches(threads=self._threads):
            if self._cohort is None:
                yield block
            else:
                known = self._corrections[first : first + len(block)]
                if np.isnan(known).any():
                    known[:] = self._cohort.corrections(block, threads=self._threads)
                yield row_vectors(block, known)
            first += len(block)

    def _held(self, number: int, progress: Callable[[int], Any]) -> Matrix:
        """Return the rows of a snapshot, with their corrections."""
        selection, start = self._selections[number], 0
        if self._cohort is None:
            progress(selection.num_rows)
            return selection.vectors(self._threads)
        held = np.empty((selection.num_rows, self.model.dimension + 2), np.float32)
        for block in self._blocks_of(number):
            held[start : start + len(block)] = block
            start += len(block)
            progress(len(block))
        return held

    def _candidates(
        self, queries: Matrix, k: int | None, threshold: float | None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield numbers of queries and rows, (p,), that the indexes find."""
        for number, index in enumerate(self._indexes):
            first = self._first_rows[number]
            if threshold is not None:
                for owners, rows in index.codes.pairs(queries, threshold):
                    yield owners, rows + first
            else:
                assert k is not None and self._vectors is not None
                owners, rows = _nearest_pairs(queries, self._vectors[number], index, k)
                yield owners, rows + first

    def _vectors_of(self, rows: Rows) -> Matrix:
        """Return the vectors of some rows, whose numbers ascend, float32 (rows, dimension)."""
        ends = np.searchsorted(rows, self._first_rows)
        found = []
        for number, (start, end) in enumerate(pairwise(ends.tolist())):
            mine = rows[start:end] - self._first_rows[number]
            if self._vectors is not None:
                found.append(self._vectors[number][mine])
            else:
                some = self._selections[number].vectors_of(mine.tolist(), self._threads)
                if self._cohort is not None:
                    some = row_vectors(some, self._cohort.corrections(some))
                found.append(some)
        return np.concatenate(found)

    def _described(self, found: list[Found]) -> list[Matches]:
        # All at once, so that each block of keys is read once.
        rows = [row for matches in found for row in matches.rows.tolist()]
        scores = (score for matches in found for score in matches.scores.tolist())
        columns = zip(self._column(layout.KEY, rows), scores, self._faces(rows), rows, strict=True)
        hits = (
            Match(key, score, face, self._snapshot_of(row), row)
            for key, score, face, row in columns
        )
        return [Matches(tuple(islice(hits, len(matches.rows))), matches.total) for matches in found]

    def _faces(self, rows: list[int]) -> list[Any]:
        return self._column(layout.FACE_INDEX, rows) if self.model.faces else [None] * len(rows)

    def _sort_keys(self, rows: list[int]) -> list[Any]:
        return self._column(layout.KEY, rows)

    def _column(self, name: str, rows: list[int]) -> list[Any]:
        different = sorted({*rows})
        values: dict[int, Any] = {}
        for selection, (first, end) in zip(
            self._selections, pairwise(self._first_rows), strict=True
        ):
            mine = different[bisect_left(different, first) : bisect_left(different, end)]
            found = selection.values(name, [row - first for row in mine]) if mine else []
            values.update(zip(mine, found, strict=True))
        return [values[row] for row in rows]

    def _snapshot_of(self, row: int) -> int:
        return bisect_right(self._first_rows, row) - 1


def _nearest_pairs(queries: Matrix, vectors: Matrix, index: Index, k: int) -> tuple[Rows, Rows]:
    """Return numbers of queries and rows, about the nearest ones, by the index if it serves."""
    more = min(k + _MORE, len(vectors))
    if index.serves(k, None):
        scores, rows = index.lists.nearest(queries, vectors, k, more)
    elif more:
        scores, rows = nearest(queries, vectors, more)
    else:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    owners, places = np.nonzero(scores > -np.inf)
    return owners, rows[owners, places]


def _opened(snapshot: SnapshotLike) -> Snapshot:
    return snapshot if isinstance(snapshot, Snapshot) else open_snapshot(snapshot)
