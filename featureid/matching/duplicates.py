"""Near-duplicates in a collection: groups of images that look alike, and which one to keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.images.pdq import MAX_DISTANCE
from featureid.matching.groups import Graph, components, stars
from featureid.matching.hashes import Hashes, close_hashes
from featureid.matching.pairs import (
    Pairs,
    all_pairs,
    identical_rows,
    joined_pairs,
    pairs_between,
    pairs_in_cells,
    recall_of,
)
from featureid.matching.scores import pair_scores, scores_of
from featureid.storage import layout
from featureid.storage.reader import Snapshot
from featureid.storage.selection import Selection

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Keep = Literal["largest", "oldest", "first", "key"]
Link = Literal["star", "single"]
Method = Literal["auto", "exact", "cells"]

#: Up to so many different vectors, all pairs are compared by default: minutes on two cores.
EXACT_ROWS = 300_000
_SAMPLE = 2000
_MODIFIED = re.compile(r"mtime:(\d+)")


@dataclass(frozen=True)
class Collection:
    """The rows that are compared.

    Attributes:
        keys: image keys.
        faces: index of each face; None for whole images.
        vectors: float32 (n, d).
        digests: SHA-256 of the files, (n, 32) uint8; None if the snapshot does not have them.
        pixels: width × height of the images, (n,).
        sizes: bytes of the files, (n,).
        modified: when the files were changed, in nanoseconds, (n,); 0 where that is not known.
        origin: (n,): 0 for rows of the collection, 1 for known ones that it is compared with.
        hashes: perceptual hashes of the images; None to go by the vectors alone.
    """

    keys: Sequence[str]
    faces: Sequence[int | None]
    vectors: Matrix
    digests: npt.NDArray[np.uint8] | None
    pixels: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int8]
    hashes: Hashes | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)


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
            recall; ``auto`` takes cells from :data:`EXACT_ROWS` different vectors on.
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
        if not 0 < self.threshold <= 1:
            raise UsageError(f"`threshold` is {self.threshold}; give more than 0, up to 1")
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
        pairs_found: of the close pairs of some rows, how many the cells have found; None if all
            pairs were compared.
        pairs_there: how many such pairs there are; None likewise.
    """

    groups: tuple[Group, ...]
    pairs_found: int | None
    pairs_there: int | None


def find_duplicates(
    rows: Collection,
    options: DuplicateOptions,
    progress: Callable[[int], None] = lambda rows: None,
) -> Duplicates:
    """Group the images of a collection that look alike.

    If some rows are of ``origin`` 1, pairs of two such rows do not count: a group then has at least
    one row of the collection.

    Args:
        rows: what is compared.
        options: how.
        progress: called with the number of rows that have been compared with all others.
    """
    # One row stands for all that have its vector.
    firsts, distinct_of = np.unique(identical_rows(rows.vectors), return_inverse=True)
    copies = _rows_by_number(distinct_of, len(firsts))
    vectors = rows.vectors[firsts]
    fresh = np.array([bool((rows.origin[some] == 0).any()) for some in copies])
    known = np.array([bool((rows.origin[some] == 1).any()) for some in copies])
    pairs, recall = _pairs(vectors, fresh, options, progress)
    if rows.hashes is not None:
        near = _near_hashes(vectors, rows.hashes.take(firsts), fresh)
        pairs = joined_pairs([(p.lower, p.higher, p.scores) for p in (pairs, near)])
    if options.across:
        one, other = pairs.lower, pairs.higher
        pairs = pairs.take((fresh[one] & known[other]) | (known[one] & fresh[other]))
    pairs = pairs.take(~_ignored(pairs, rows.keys, distinct_of, options.ignored))
    graph = Graph.of(pairs, len(firsts))
    rank = _rank(rows, options.keep)
    groups = [
        _group(rows, graph, copies, rank, center, members, options)
        for center, members in _grouped(graph, copies, rank, options.link)
        if fresh[members].any() and (known[members].any() or not options.across)
    ]
    groups.sort(key=lambda group: (-len(group.members), rows.keys[group.keep]))
    return Duplicates(tuple(groups), *recall)


def read_collection(
    snapshot: Snapshot, prefix: str = "", origin: int = 0, hashes: bool = True
) -> Collection:
    """Return the rows of a snapshot whose keys start with a prefix.

    Args:
        snapshot: the snapshot; rows of imported vectors may lack everything but key and vector.
        prefix: what the keys start with; "" for all rows.
        origin: what the result says of all rows.
        hashes: whether to read the perceptual hashes, if there are any.
    """
    names = {spec.name for spec in snapshot.columns()}
    selection = Selection(snapshot, prefix)

    def column(name: str, default: Any) -> Any:
        return selection.column(name) if name in names else default

    none = np.zeros(selection.num_rows, np.int64)
    width, height = column("width", none), column("height", none)
    versions = column("source_version", [""] * selection.num_rows)
    times = (_MODIFIED.match(version) for version in versions)
    return Collection(
        keys=list(selection.column(layout.KEY)),
        faces=[int(face) for face in column(layout.FACE_INDEX, [])] or [None] * len(none),
        vectors=selection.vectors(),
        digests=column("sha256", None),
        pixels=np.asarray(width, np.int64) * height,
        sizes=np.asarray(column("source_size", none), np.int64),
        modified=np.array([int(time[1]) if time else 0 for time in times], np.int64),
        origin=np.full(len(none), origin, np.int8),
        hashes=Hashes.read(selection) if hashes and snapshot.model.hash else None,
    )


def _near_hashes(vectors: Matrix, hashes: Hashes, fresh: npt.NDArray[np.bool_]) -> Pairs:
    """Return the pairs with at least one fresh row whose perceptual hashes are near."""
    lower, higher = close_hashes(hashes)
    wanted = fresh[lower] | fresh[higher]
    lower, higher = lower[wanted], higher[wanted]
    return Pairs(lower, higher, scores_of(vectors, lower, vectors, higher))


def _pairs(
    vectors: Matrix,
    fresh: npt.NDArray[np.bool_],
    options: DuplicateOptions,
    progress: Callable[[int], None],
) -> tuple[Pairs, tuple[int | None, int | None]]:
    """Return the pairs with at least one fresh row, and the measured recall of cells."""
    if options.method == "cells" or (options.method == "auto" and len(vectors) > EXACT_ROWS):
        found = pairs_in_cells(vectors, options.threshold, progress=progress)
        recall = recall_of(found, vectors, options.threshold, _SAMPLE)
        return found.take(fresh[found.lower] | fresh[found.higher]), recall
    if fresh.all():
        return all_pairs(vectors, options.threshold, progress), (None, None)
    rows = np.flatnonzero(fresh)
    here, there, scores = pairs_between(vectors[rows], vectors, options.threshold)
    one = rows[here]
    different = one != there
    lower, higher = np.minimum(one, there)[different], np.maximum(one, there)[different]
    return joined_pairs([(lower, higher, scores[different])]), (None, None)


def _ignored(
    pairs: Pairs, keys: Sequence[str], distinct_of: Rows, ignored: frozenset[tuple[str, str]]
) -> npt.NDArray[np.bool_]:
    """Return which pairs are to be ignored, (p,)."""
    named = {key for pair in ignored for key in pair}
    numbers: dict[str, set[int]] = {}
    for key, number in zip(keys, distinct_of.tolist(), strict=True):
        if key in named:
            numbers.setdefault(key, set()).add(number)
    unwanted = {
        (min(one, other), max(one, other))
        for a, b in ignored
        for one in numbers.get(a, ())
        for other in numbers.get(b, ())
    }
    if not unwanted:
        return np.zeros(len(pairs), bool)
    both = zip(pairs.lower.tolist(), pairs.higher.tolist(), strict=True)
    return np.array([pair in unwanted for pair in both], bool)


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


def _rows_by_number(numbers: Rows, count: int) -> list[Rows]:
    """Return for each number from 0 the places where it stands, ascending."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _grouped(
    graph: Graph, copies: Sequence[Rows], rank: Rows, link: Link
) -> Iterator[tuple[int, Rows]]:
    """Yield center and all members, numbers of distinct vectors, of each group."""
    weights = np.array([len(rows) for rows in copies], np.intp)
    preference = np.array([rank[rows].min() for rows in copies], np.intp)
    alone = weights > 1
    for center, members in _linked(graph, weights, preference, link):
        alone[members] = False
        yield center, members
    for number in np.flatnonzero(alone).tolist():
        yield number, np.array([number])


def _linked(
    graph: Graph, weights: Rows, preference: Rows, link: Link
) -> Iterator[tuple[int, Rows]]:
    if link == "star":
        for center, others in stars(graph, weights, preference):
            yield center, np.append(others, center)
        return
    for members in components(graph):
        images = [int(weights[graph.neighbors_of(member)].sum()) for member in members.tolist()]
        yield int(members[np.lexsort((preference[members], np.negative(images)))[0]]), members


def _group(
    rows: Collection,
    graph: Graph,
    copies: Sequence[Rows],
    rank: Rows,
    center: int,
    members: Rows,
    options: DuplicateOptions,
) -> Group:
    """Return a group of distinct vectors with all rows that have them."""
    preferred = sorted(members.tolist(), key=lambda member: rank[copies[member]].min())
    if options.link == "star":  # The center at least is near all.
        near_all = (m for m in preferred if _is_near_all(rows, graph, copies, m, members, options))
        preferred = [next(near_all)]
    keep = int(min(copies[preferred[0]], key=rank.__getitem__))
    middle = int(min(copies[center], key=rank.__getitem__))
    everyone = np.concatenate([copies[m] for m in members.tolist()])
    scores = pair_scores(rows.vectors[middle], rows.vectors[everyone])
    order = np.lexsort((rank[everyone], -scores, everyone != keep))
    everyone, scores = everyone[order], scores[order]
    same = np.zeros(len(everyone), bool)
    if rows.digests is not None:
        same = (rows.digests[everyone] == rows.digests[keep]).all(axis=1)
    apart = [None] * len(everyone)
    if rows.hashes is not None:
        found = rows.hashes.distances(middle, rows.hashes.take(everyone)).tolist()
        apart = [None if distance < 0 else distance for distance in found]
    members_found = map(Member, everyone.tolist(), scores.tolist(), same.tolist(), apart)
    return Group(keep, middle, tuple(members_found))


def _is_near_all(
    rows: Collection,
    graph: Graph,
    copies: Sequence[Rows],
    member: int,
    members: Rows,
    options: DuplicateOptions,
) -> bool:
    """Return whether a distinct vector is near all others of its group."""
    others = np.setdiff1d(members, np.append(graph.neighbors_of(member), member)).tolist()
    if not others:
        return True
    # Known rows have not been compared with each other yet.
    one, rest = copies[member][0], [copies[other][0] for other in others]
    if not (rows.origin[one] and rows.origin[rest].all()):
        return False
    near = pair_scores(rows.vectors[one], rows.vectors[rest]) >= np.float32(options.threshold)
    if rows.hashes is not None:
        distances = rows.hashes.distances(int(one), rows.hashes.take(np.array(rest)))
        near |= (distances >= 0) & (distances <= MAX_DISTANCE)
    return bool(near.all())


def joined_collections(one: Collection, other: Collection) -> Collection:
    """Return the rows of both."""
    digests = None
    if one.digests is not None and other.digests is not None:
        digests = np.concatenate([one.digests, other.digests])
    hashes = None
    if one.hashes is not None and other.hashes is not None:
        hashes = Hashes.joined([one.hashes, other.hashes])
    return Collection(
        [*one.keys, *other.keys],
        [*one.faces, *other.faces],
        np.concatenate([one.vectors, other.vectors]),
        digests,
        np.concatenate([one.pixels, other.pixels]),
        np.concatenate([one.sizes, other.sizes]),
        np.concatenate([one.modified, other.modified]),
        np.concatenate([one.origin, other.origin]),
        hashes,
    )


def mark_known(rows: Collection, before: Collection) -> Collection:
    """Return rows with ``origin`` 1 for those that another collection has, key and vector."""
    places = {name: row for row, name in enumerate(zip(before.keys, before.faces, strict=True))}
    found = np.array(
        [places.get(name, -1) for name in zip(rows.keys, rows.faces, strict=True)], np.intp
    )
    known = found >= 0
    known[known] = (rows.vectors[known] == before.vectors[found[known]]).all(axis=1)
    return replace(rows, origin=known.astype(np.int8))
