"""Matches of queries in a part of a gallery, and how those of several parts become one answer.

Each part gives the best ``k`` rows of its own, exactly and in order (:mod:`exact`), so that the
best of all parts are among them: merging is associative, and its result does not depend on how the
gallery was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.exact import Found, Hits, search_above, search_top
from featureid.matching.parts import PartRows
from featureid.storage import layout

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PartialMatches:
    """The matches of some queries, one query after the other, best first.

    Attributes:
        counts: int64 (n,), number of matches of each query.
        totals: int64 (n,), the same with those that ``k`` has cut off.
        scores: float32 (h,).
        rows: int64 (h,), numbers of the rows in the gallery's snapshot.
        keys: their image keys.
        faces: int32 (h,), the indexes of their faces; None for whole images.
    """

    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    scores: Matrix
    rows: npt.NDArray[np.int64]
    keys: list[str]
    faces: npt.NDArray[np.int32] | None

    def owners(self) -> Rows:
        """Return the number of the query of each match, (h,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def ranks(self) -> npt.NDArray[np.int32]:
        """Return the place of each match among those of its query, from 1, (h,)."""
        firsts = np.cumsum(self.counts) - self.counts
        return (np.arange(len(self.keys)) - firsts[self.owners()] + 1).astype(np.int32)

    def split(self, sizes: Sequence[int]) -> list[PartialMatches]:
        """Return the matches of the first so many queries, of the next so many, and so on."""
        found, query, hit = [], 0, 0
        for size in sizes:
            counts = self.counts[query : query + size]
            some = slice(hit, hit + int(counts.sum()))
            found.append(
                PartialMatches(
                    counts,
                    self.totals[query : query + size],
                    self.scores[some],
                    self.rows[some],
                    self.keys[some],
                    None if self.faces is None else self.faces[some],
                )
            )
            query, hit = query + size, some.stop
        return found


def match_part(
    queries: Matrix, gallery: PartRows, vectors: Matrix, k: int | None, threshold: float | None
) -> PartialMatches:
    """Search a part of a gallery exactly.

    Args:
        queries: float32 (n, d) of unit length.
        gallery: the rows of the part.
        vectors: theirs, float32 (m, d).
        k: how many matches a query has at most; None for all that reach the threshold.
        threshold: the lowest score; None for no limit.
    """

    def sort_keys(rows: list[int]) -> Sequence[str]:
        return gallery.values(layout.KEY, np.array(rows, np.intp))

    if threshold is None:
        assert k is not None
        found = search_top(queries, lambda: [vectors], k, sort_keys)
    else:
        lowest = np.full(len(queries), threshold, np.float32)
        found = search_above(queries, lambda: [vectors], lowest, k, sort_keys)
    rows = _joined_rows(found)
    faces = None
    if gallery.has_faces:
        faces = np.array(gallery.values(layout.FACE_INDEX, rows), np.int32)
    return PartialMatches(
        np.array([len(matches.rows) for matches in found], np.int64),
        np.array([matches.total for matches in found], np.int64),
        np.concatenate([np.empty(0, np.float32), *(matches.scores for matches in found)]),
        gallery.numbers(rows),
        gallery.values(layout.KEY, rows),
        faces,
    )


def merge(parts: Sequence[PartialMatches], k: int | None) -> PartialMatches:
    """Return the matches of the same queries in all parts, the best ``k`` of each.

    Args:
        parts: matches in different parts of the gallery, at least one.
        k: how many matches a query has at most; None for all.
    """
    if len(parts) == 1:
        return parts[0]
    keys = [key for part in parts for key in part.keys]
    scores, rows = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "rows")
    )
    numbers = rows.tolist()
    hits = Hits(len(parts[0].counts), k, lambda some: [(keys[n], numbers[n]) for n in some])
    owners = np.concatenate([part.owners() for part in parts])
    hits.add(owners, np.arange(len(keys)), scores)
    found = hits.found()
    order = _joined_rows(found)
    faces = [part.faces for part in parts if part.faces is not None]
    return PartialMatches(
        np.array([len(matches.rows) for matches in found], np.int64),
        np.sum([part.totals for part in parts], axis=0),
        scores[order],
        rows[order],
        [keys[n] for n in order.tolist()],
        np.concatenate(faces)[order] if faces else None,
    )


def _joined_rows(found: Sequence[Found]) -> Rows:
    return np.concatenate([np.empty(0, np.intp), *(matches.rows for matches in found)])
