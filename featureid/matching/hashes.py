"""Perceptual hashes of rows, and which rows have nearly the same one: exactly, without all pairs.

Two hashes that differ in at most 31 of 256 bits differ in at most one bit in one of their 16 bands
of 16 bits, as two bits in each would be 32. So for each band only rows are compared whose 16 bits
are equal or differ in one: about 1 in 200 pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.images.pdq import HASH_BYTES, MAX_DISTANCE, MIN_QUALITY, hash_distances
from featureid.matching import lists
from featureid.storage import layout
from featureid.storage.selection import Selection

Rows = npt.NDArray[np.intp]

_BAND_BITS = 16
_BANDS = 8 * HASH_BYTES // _BAND_BITS
# Candidates that are compared at a time, some 100 MB.
_AT_ONCE = 1 << 20
# Of more rows with one hash, the pairs are not listed.
_MAX_LISTED = 64


@dataclass(frozen=True)
class Hashes:
    """The hashes of rows.

    Attributes:
        bits: uint8 (n, 32).
        usable: (n,), whether a row has a hash, and one that says enough to be compared.
    """

    bits: npt.NDArray[np.uint8]
    usable: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, rows: int) -> Hashes:
        """Return those of rows that have no hash."""
        return cls(np.zeros((rows, HASH_BYTES), np.uint8), np.zeros(rows, np.bool_))

    @classmethod
    def of(cls, bits: npt.NDArray[np.uint8], quality: npt.NDArray[np.uint8]) -> Hashes:
        """Return hashes, (n, 32), with their quality, (n,)."""
        return cls(np.ascontiguousarray(bits), quality >= MIN_QUALITY)

    @classmethod
    def read(cls, selection: Selection) -> Hashes:
        """Return those of rows of a snapshot, which may have none."""
        if not selection.snapshot.model.hash:
            return cls.none(selection.num_rows)
        columns = (selection.column(name) for name in (layout.HASH, layout.HASH_QUALITY))
        return cls.of(*map(np.asarray, columns))

    @classmethod
    def joined(cls, parts: Iterable[Hashes]) -> Hashes:
        """Return the hashes of several collections as those of one."""
        all_parts = [cls.none(0), *parts]
        return cls(
            np.concatenate([part.bits for part in all_parts]),
            np.concatenate([part.usable for part in all_parts]),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.bits)

    def take(self, rows: Rows) -> Hashes:
        """Return the hashes of some rows."""
        return Hashes(self.bits[rows], self.usable[rows])

    def distances(self, row: int, others: Hashes) -> Rows:
        """Return in how many bits the hash of a row differs from others, (m,).

        It is -1 where one of the two is missing or says too little.
        """
        if not self.usable[row] or not others.usable.any():
            return np.full(len(others), -1, np.intp)
        found = hash_distances(self.bits[row], others.bits)
        return np.where(others.usable, found, -1)


def close_hashes(hashes: Hashes) -> tuple[Rows, Rows, Rows]:
    """Return all pairs of rows whose hashes differ in at most 31 bits, each once.

    More than 64 rows with the same hash are only numbered, since their pairs may be too many.

    Returns:
        Row numbers (p,), and larger ones (p,); and for each row the number of its hash if the
        pairs of rows with that hash are not listed, or else -1, (n,).
    """
    usable = np.flatnonzero(hashes.usable)
    words = np.ascontiguousarray(hashes.bits[usable]).view(f"V{HASH_BYTES}").ravel()
    _, of_rows, counts = np.unique(words, return_inverse=True, return_counts=True)
    numbers = np.where(counts > _MAX_LISTED, np.arange(len(counts)), -1)[of_rows]
    alike = np.full(len(hashes), -1)
    alike[usable] = numbers
    crowds = {int(rows[0]): rows for rows in lists.numbered(alike)}
    # One row stands for all that are only numbered.
    listed = np.sort(np.concatenate([usable[numbers < 0], np.array([*crowds], np.intp)]))
    pairs = listed[np.stack(_close_bits(hashes.bits[listed]))]
    stands = np.isin(pairs, [*crowds]).any(axis=0)
    parts = [pairs[:, ~stands]]
    for one, other in pairs[:, stands].T:
        here, there = (crowds.get(int(row), row[np.newaxis]) for row in (one, other))
        parts.append(np.stack([np.repeat(here, len(there)), np.tile(there, len(here))]))
    pairs = np.sort(np.concatenate(parts, axis=1), axis=0)
    return pairs[0], pairs[1], alike


def _close_bits(bits: npt.NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """Return all pairs of hashes, (n, 32), that differ in at most 31 bits, each once, (p,) both."""
    bands = bits.view(np.uint16)
    found = [np.empty((2, 0), np.intp)]
    for number in range(_BANDS):
        order = np.argsort(bands[:, number], kind="stable")
        # Half of the bits rules out nearly all candidates.
        halves = np.ascontiguousarray(bits[order, : HASH_BYTES // 2]).view(np.uint64)
        for here, there in _similar(bands[order, number]):
            apart = np.bitwise_count(halves.take(here, 0) ^ halves.take(there, 0))
            near = apart[:, 0] + apart[:, 1] <= MAX_DISTANCE
            one, other = order[here[near]], order[there[near]]
            near = _apart(bits[one], bits[other]) <= MAX_DISTANCE
            one, other = one[near], other[near]
            # Pairs that an earlier band has found are known already.
            earlier = np.bitwise_count(bands[one, :number] ^ bands[other, :number]) <= 1
            new = ~earlier.any(axis=1)
            found.append(np.stack([one[new], other[new]]))
    one, other = np.concatenate(found, axis=1)
    return one, other


def _apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return in how many bits each hash of one, (p, 32), differs from that of the other."""
    distances: npt.NDArray[np.intp] = np.bitwise_count(one ^ other).sum(axis=1, dtype=np.intp)
    return distances


def _similar(values: npt.NDArray[np.uint16]) -> Iterator[tuple[Rows, Rows]]:
    """Yield the places of pairs of sorted values that differ in at most one bit, each once."""
    places = np.arange(len(values))
    starts = np.searchsorted(values, np.arange((1 << _BAND_BITS) + 1))
    yield from _ranges(places, places + 1, starts[values.astype(np.intp) + 1])
    for bit in (1 << np.arange(_BAND_BITS)).tolist():
        lower = places[(values & bit) == 0]
        partners = values[lower].astype(np.intp) | bit
        yield from _ranges(lower, starts[partners], starts[partners + 1])


def _ranges(owners: Rows, starts: Rows, ends: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Yield each owner with each number from its start to before its end, some at a time."""
    sizes = ends - starts
    totals = np.cumsum(sizes)
    steps = np.arange(_AT_ONCE, totals[-1] if len(totals) else 0, _AT_ONCE)
    bounds = np.unique([0, *np.searchsorted(totals, steps).tolist(), len(owners)])
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = sizes[first:last]
        before = np.cumsum(part) - part
        members = np.arange(part.sum()) + np.repeat(starts[first:last] - before, part)
        yield np.repeat(owners[first:last], part), members
