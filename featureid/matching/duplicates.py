"""Near-duplicates in a collection: groups of images that look alike, and which one to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.images.pdq import MAX_DISTANCE
from featureid.matching.blas import threads_beside_blas
from featureid.matching.cells import Recall, parts_by_cells, recall_of
from featureid.matching.collection import Collection
from featureid.matching.forest import Forest
from featureid.matching.groups import batches, components, stars
from featureid.matching.hashes import close_hashes
from featureid.matching.identical import identical_rows
from featureid.matching.lists import Lists
from featureid.matching.near import Nearness, Pairs, limits_of
from featureid.matching.scores import products_of

Rows = npt.NDArray[np.intp]
Keep = Literal["largest", "oldest", "first", "key"]
Link = Literal["star", "single"]
Method = Literal["auto", "exact", "cells"]

#: The lowest score of duplicates where no calibration of the model is known.
DEFAULT_THRESHOLD = 0.9
#: Up to so many different vectors, all pairs are compared by default: minutes on two cores.
EXACT_ROWS = 300_000
# Members that are tried at a time as the one to keep.
_TRIED_AT_ONCE = 256


@dataclass(frozen=True)
class DuplicateOptions:
    """How near-duplicates are found and grouped.

    Attributes:
        threshold: the lowest score of a member with the center of its group, unless their
            perceptual hashes are near.
        keep: which image of a group to keep: the one with the most pixels, the file that was
            changed first, the first by ``origin`` and then key, or the first by key.
        link: ``star``: every member is near the center and the image that is kept, by score or by
            hash; ``single``: with any other member, so that chains are followed.
        method: ``exact`` compares all pairs; ``cells`` nearly all that are close, and measures its
            recall; ``auto`` takes cells from :data:`EXACT_ROWS` different vectors on, but not for
            corrected scores.
        across: only pairs of a row of the collection and a known one count, not those of two rows
            of the collection.
        ignored: pairs of keys that are never grouped because of each other.

    Raises:
        UsageError: a value is not allowed.
    """

    threshold: float
    keep: Keep = "largest"
    link: Link = "star"
    method: Method = "auto"
    across: bool = False
    ignored: frozenset[tuple[str, str]] = field(default=frozenset())

    def __post_init__(self) -> None:
        if not -1 <= self.threshold <= 1:
            raise UsageError(f"`threshold` is {self.threshold}; a score is from -1 to 1")
        for name, known in (("keep", Keep), ("link", Link), ("method", Method)):
            if getattr(self, name) not in get_args(known):
                raise UsageError(
                    f"`{name}` is {getattr(self, name)!r}; known: {', '.join(get_args(known))}"
                )


@dataclass(frozen=True)
class Member:
    """A row in a group.

    Attributes:
        row: its number in the collection.
        score: with the center.
        identical: whether its file has the same bytes as the one that is kept.
        hash_distance: bits in which its perceptual hash differs from that of the center; None if
            one of them is not known, or says too little.
    """

    row: int
    score: float
    identical: bool
    hash_distance: int | None = None


@dataclass(frozen=True)
class Group:
    """Images that look alike.

    Attributes:
        keep: row of the image to keep.
        center: row of the image that all members are compared with.
        members: all rows, that of ``keep`` first, then by score, highest first.
    """

    keep: int
    center: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        groups: those with the most images first.
        recall: how many pairs of some rows the cells have found; None if all pairs were compared.
    """

    groups: tuple[Group, ...]
    recall: Recall | None


def find_duplicates(
    rows: Collection,
    options: DuplicateOptions,
    progress: Callable[[int], None] = lambda rows: None,
    threads: int = 0,
) -> Duplicates:
    """Group the images of a collection that look alike.

    If some rows are of ``origin`` 1, pairs of two such rows do not count: a group then has at least
    one row of the collection.

    Args:
        rows: what is compared.
        options: how.
        progress: called with the number of rows that have been compared with all others.
        threads: to use; 0 means one per CPU core.

    Raises:
        UsageError: scores are corrected, and cells, which go by plain ones, are asked for.
    """
    cells = options.method == "cells"
    if rows.corrections is not None and cells:
        raise UsageError(
            "`method='cells'` cannot find pairs by corrected scores; take exact, or a calibration "
            "without a cohort"
        )
    distinct = _Distinct.of(rows)
    near = _nearness(rows, distinct, options)
    if options.method == "auto":
        cells = len(near) > EXACT_ROWS and rows.corrections is None
    recall = None
    with threads_beside_blas(threads) as count:
        if cells:
            parts = parts_by_cells(near, distinct.copies.lengths, count, progress)
            recall = recall_of(near, parts, len(rows))
        else:
            forest = Forest(len(near))
            for edges in near.edges(count, progress):
                forest.join(edges.one, edges.other)
            parts = forest.labels()
    return Duplicates(_groups(rows, distinct, near.in_parts(parts), options), recall)


def group_parts(
    rows: Collection, parts: npt.NDArray[np.intp], options: DuplicateOptions
) -> tuple[Group, ...]:
    """Return the groups of rows whose parts are known: all near rows of a part, near no others.

    Args:
        rows: what is grouped.
        parts: the number of the part of each row, (n,); identical vectors have the same.
        options: how.
    """
    distinct = _Distinct.of(rows)
    near = _nearness(rows, distinct, options).in_parts(parts[distinct.firsts])
    return _groups(rows, distinct, near, options)


@dataclass(frozen=True)
class _Distinct:
    """The distinct vectors of a collection: one row stands for all that have its vector.

    Attributes:
        firsts: the first row of each, ascending, (m,).
        of_rows: the number of each row's vector, (n,).
        copies: the rows of each.
    """

    firsts: Rows
    of_rows: Rows
    copies: Lists

    @classmethod
    def of(cls, rows: Collection) -> _Distinct:
        firsts, of_rows = np.unique(identical_rows(rows.vectors), return_inverse=True)
        return cls(firsts, of_rows, Lists.by_number(of_rows, len(firsts)))


def _groups(
    rows: Collection, distinct: _Distinct, near: Nearness, options: DuplicateOptions
) -> tuple[Group, ...]:
    grouping = _Grouping(rows, distinct.copies, _rank(rows, options.keep), options)
    return tuple(
        sorted(
            grouping.groups(near),
            key=lambda group: (-len(group.members), rows.keys[group.keep]),
        )
    )


def _nearness(rows: Collection, distinct: _Distinct, options: DuplicateOptions) -> Nearness:
    """Return which distinct vectors are near each other."""
    firsts = distinct.firsts
    fresh, known = (
        np.bincount(distinct.of_rows[rows.origin == origin], minlength=len(firsts)) > 0
        for origin in (0, 1)
    )
    everywhere = np.ones(len(firsts), np.bool_)
    corrections = None if rows.corrections is None else rows.corrections[firsts]
    nearness = Nearness.of(rows.vectors[firsts], options.threshold, corrections)
    added, alike = Pairs.none(), nearness.alike
    if rows.hashes is not None:
        one, other, alike = close_hashes(rows.hashes.take(firsts))
        added = Pairs(one, other)
        # Most are near by their vectors, too, and so need not be held.
        _, near = limits_of(options.threshold, nearness.vectors.shape[1])
        products = products_of(nearness.queries, added.one, nearness.vectors, added.other)
        added = added.where(products < near)
    return replace(
        nearness,
        left=fresh,
        right=known if options.across else everywhere,
        added=added,
        removed=_ignored(rows.keys, distinct.of_rows, options.ignored),
        alike=alike,
    )


def _ignored(keys: Sequence[str], distinct_of: Rows, ignored: frozenset[tuple[str, str]]) -> Pairs:
    """Return the pairs of distinct vectors that are to be ignored."""
    named = {key for pair in ignored for key in pair}
    numbers: dict[str, set[int]] = {}
    if named:
        for key, number in zip(keys, distinct_of.tolist(), strict=True):
            if key in named:
                numbers.setdefault(key, set()).add(number)
    unwanted = {
        (one, other)
        for a, b in ignored
        for one in numbers.get(a, ())
        for other in numbers.get(b, ())
        if one != other
    }
    pairs = np.array([*unwanted], np.intp).reshape(-1, 2)
    return Pairs(pairs[:, 0], pairs[:, 1])


def _rank(rows: Collection, keep: Keep) -> Rows:
    """Return the place of each row in the order in which rows are preferred, (n,)."""
    by_key = np.empty(len(rows), np.intp)
    by_key[sorted(range(len(rows)), key=rows.keys.__getitem__)] = np.arange(len(rows))
    known_first = -rows.origin.astype(np.intp)
    unknown_last = np.where(rows.modified > 0, rows.modified, np.iinfo(np.int64).max)
    criteria: dict[Keep, tuple[npt.NDArray[Any], ...]] = {
        "largest": (known_first, -rows.pixels, -rows.sizes, by_key),
        "oldest": (known_first, unknown_last, by_key),
        "first": (known_first, by_key),
        "key": (by_key,),
    }
    rank = np.empty(len(rows), np.intp)
    rank[np.lexsort(tuple(reversed(criteria[keep])))] = np.arange(len(rows))
    return rank


@dataclass(frozen=True)
class _Grouping:
    """Makes groups of rows out of those of distinct vectors.

    Attributes:
        rows: all rows.
        copies: the rows that have each distinct vector.
        rank: the place of each row in the order in which rows are preferred, (n,).
        options: how they are grouped.
    """

    rows: Collection
    copies: Lists
    rank: Rows
    options: DuplicateOptions

    def groups(self, near: Nearness) -> Iterator[Group]:
        """Yield all groups; ``near`` says which distinct vectors are near each other."""
        weights = self.copies.lengths
        preference = np.empty(0, np.intp)
        if len(weights):
            preference = np.minimum.reduceat(self.rank[self.copies.rows], self.copies.starts[:-1])
        alone = weights > 1
        linked = stars if self.options.link == "star" else components
        for batch in batches(near.parts):
            some = near.take(batch)
            for center, others in linked(some, weights[batch], preference[batch]):
                members = np.append(others, center)
                alone[batch[members]] = False
                by_preference = members[np.argsort(preference[batch[members]])]
                kept = self._kept(some, batch, by_preference)
                yield self._group(batch[kept], batch[center], batch[members])
        known = self.rows.origin == 1
        for number in np.flatnonzero(alone).tolist():
            origins = known[self.copies[number]]
            if not origins.all() and (origins.any() or not self.options.across):
                yield self._group(number, number, np.array([number]))

    def _kept(self, near: Nearness, batch: Rows, members: Rows) -> int:
        """Return the first member that is near all others, which is true of the center at least.

        Args:
            near: of the vectors of a batch.
            batch: their numbers.
            members: of a group, by their places in the batch.
        """
        if self.options.link == "single":
            return int(members[0])
        return next(self._near_all(near, batch, members))

    def _near_all(self, near: Nearness, batch: Rows, members: Rows) -> Iterator[int]:
        for start in range(0, len(members), _TRIED_AT_ONCE):
            some = members[start : start + _TRIED_AT_ONCE]
            for member, is_near in zip(some.tolist(), near.matrix(some, members), strict=True):
                far = batch[members[~is_near]]
                if not len(far) or self._known_are_near(batch[member], far):
                    yield member

    def _known_are_near(self, one: int, others: Rows) -> bool:
        """Return whether known vectors, whose pairs do not count, are near each other."""
        first, rest = self.copies[one][0], self.copies.rows[self.copies.starts[others]]
        if not (self.rows.origin[first] and self.rows.origin[rest].all()):
            return False
        scores = self.rows.scores(int(first), rest)
        near = scores >= np.float32(self.options.threshold)
        if self.rows.hashes is not None:
            distances = self.rows.hashes.distances(int(first), self.rows.hashes.take(rest))
            near |= (distances >= 0) & (distances <= MAX_DISTANCE)
        return bool(near.all())

    def _group(self, kept: int, center: int, members: Rows) -> Group:
        """Return a group of distinct vectors with all rows that have them."""
        keep, middle = (
            int(copies[self.rank[copies].argmin()])
            for copies in (self.copies[kept], self.copies[center])
        )
        everyone = np.concatenate([self.copies[member] for member in members.tolist()])
        rows = self.rows
        scores = rows.scores(middle, everyone)
        order = np.lexsort((self.rank[everyone], -scores, everyone != keep))
        everyone, scores = everyone[order], scores[order]
        same = np.zeros(len(everyone), np.bool_)
        if rows.digests is not None:
            same = (rows.digests[everyone] == rows.digests[keep]).all(axis=1)
        apart = [None] * len(everyone)
        if rows.hashes is not None:
            found = rows.hashes.distances(middle, rows.hashes.take(everyone)).tolist()
            apart = [None if distance < 0 else distance for distance in found]
        found_members = map(Member, everyone.tolist(), scores.tolist(), same.tolist(), apart)
        return Group(keep, middle, tuple(found_members))
