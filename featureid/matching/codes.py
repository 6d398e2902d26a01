"""Sign codes: a bit for each dimension, by which rows that may reach a threshold are found.

A bit says on which side of the center of all rows a number lies. Two vectors differ in about as
many bits as the angle between them is of 180° (Charikar, Similarity Estimation Techniques from
Rounding Algorithms, 2002), with the spread of a binomial distribution if bits are independent. So
nearly all rows that score at least T differ in no more bits than :func:`radius_of` T. How many do
is measured on pairs of the collection's own rows, since its bits are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.exact import Blocks, close_pairs, rows_of
from featureid.matching.recall import Recall
from featureid.matching.scores import scores_of
from featureid.parallel import map_in_order
from featureid.storage.arrow import load_package

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.uint64]

#: The lowest score whose recall is measured.
LOWEST = 0.5
#: Scores are counted in steps of a hundredth.
STEPS = 50
#: A recall that is measured with fewer pairs does not count.
ENOUGH_PAIRS = 300

# Of a normal distribution, 0.02 % lies beyond so many deviations on one side.
_DEVIATIONS = 3.5
_SAMPLE = 2000
_SEED = 20261129
# Of the pairs of a part, about so many are counted.
_COUNTED = 1 << 14
# 256 KB of codes of 128 bits: they stay in the cache of a core.
_ROWS_AT_ONCE = 1 << 14
_QUERIES_AT_ONCE = 512
_PAIRS_AT_ONCE = 1 << 16


def radius_of(threshold: float, bits: int) -> int:
    """Return in how many bits vectors that score at least a threshold differ at most, nearly all.

    Args:
        threshold: from -1 to 1.
        bits: the number of dimensions.
    """
    share = math.acos(threshold) / math.pi
    return math.floor(bits * share + _DEVIATIONS * math.sqrt(bits * share * (1 - share)))


@dataclass(frozen=True)
class SignCodes:
    """The codes of some rows.

    Attributes:
        center: what the numbers of vectors are compared with, float32 (d,).
        counts: how many sampled pairs have each score and distance, (50, d + 1): the first row is
            of scores from 0.5 to 0.51.
        codes: (n, d / 8 rounded up).
    """

    center: Matrix
    counts: Counts
    codes: Codes

    @classmethod
    def of(cls, blocks: Blocks, dimension: int, threads: int = 1) -> SignCodes:
        """Return the codes of rows, read three times, and measure the distances of close ones.

        Args:
            blocks: the rows.
            dimension: their length.
            threads: to use.
        """
        total, num_rows = np.zeros(dimension), 0
        for block in blocks():
            total += block.sum(axis=0, dtype=np.float64)
            num_rows += len(block)
        center = (total / max(1, num_rows)).astype(np.float32)
        random = np.random.default_rng(_SEED)
        drawn = np.sort(random.choice(num_rows, min(_SAMPLE, num_rows), replace=False))
        sample = rows_of(blocks, drawn, dimension)
        sampled = _Sample(sample, drawn, _codes(sample, center))

        def coded(block: tuple[int, Matrix]) -> tuple[Codes, Counts]:
            first, rows = block
            codes = _codes(rows, center)
            return codes, sampled.counts(first, rows, codes)

        found = cls.none(dimension)
        counts, codes = found.counts, [found.codes]
        for _, (some, counted) in map_in_order(coded, _numbered(blocks()), threads):
            codes.append(some)
            counts += counted
        return cls(center, counts, np.concatenate(codes))

    @classmethod
    def none(cls, dimension: int) -> SignCodes:
        """Return no codes, and no counts."""
        return cls(
            np.zeros(dimension, np.float32),
            np.zeros((STEPS, dimension + 1), np.uint64),
            np.empty((0, -(-dimension // 8)), np.uint8),
        )

    def recall(self, threshold: float) -> Recall | None:
        """Return the measured recall at a threshold, or at the next lower one with enough pairs.

        Recall differs little between thresholds. None if there are too few pairs for any.
        """
        for step in range(min(STEPS - 1, math.ceil((threshold - LOWEST) * 100 - 1e-6)), -1, -1):
            lower = LOWEST + step / 100
            pairs = int(self.counts[step:].sum())
            if pairs >= ENOUGH_PAIRS:
                radius = radius_of(lower, len(self.center))
                return Recall(int(self.counts[step:, : radius + 1].sum()), pairs, round(lower, 2))
        return None

    def pairs(self, queries: Matrix, threshold: float) -> Iterator[tuple[Rows, Rows]]:
        """Yield numbers of queries and of rows, (p,), that may score at least a threshold.

        Raises:
            UsageError: faiss is not installed.
        """
        radius = radius_of(threshold, len(self.center))
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            codes = _codes(queries[start : start + _QUERIES_AT_ONCE], self.center)
            found: list[tuple[Rows, Rows]] = []
            for number, index in enumerate(self._indexes):
                ends, _, rows = index.range_search(codes, radius + 1)
                owners = np.repeat(np.arange(len(codes)), np.diff(ends.astype(np.intp)))
                found.append((owners + start, rows + number * _ROWS_AT_ONCE))
                if sum(len(rows) for _, rows in found) > _PAIRS_AT_ONCE:
                    yield _joined(found)
                    found.clear()
            if found:
                yield _joined(found)

    @cached_property
    def _indexes(self) -> list[Any]:
        faiss = load_package("faiss", "featureid[search]")
        indexes = []
        for start in range(0, len(self.codes), _ROWS_AT_ONCE):
            indexes.append(faiss.IndexBinaryFlat(8 * self.codes.shape[1]))
            indexes[-1].add(self.codes[start : start + _ROWS_AT_ONCE])
        return indexes


def _codes(vectors: Matrix, center: Matrix) -> Codes:
    return np.packbits(vectors > center, axis=1)


def _numbered(blocks: Iterable[Matrix]) -> Iterator[tuple[int, Matrix]]:
    """Yield the number of the first row of each block, and the block."""
    first = 0
    for block in blocks:
        yield first, block
        first += len(block)


@dataclass(frozen=True)
class _Sample:
    """Rows whose close ones are counted.

    Attributes:
        vectors: float32 (n, d).
        numbers: theirs, (n,).
        codes: theirs.
    """

    vectors: Matrix
    numbers: Rows
    codes: Codes

    def counts(self, first: int, block: Matrix, codes: Codes) -> Counts:
        """Return how many pairs with rows of a block have each score and distance.

        Args:
            first: number of the first row of the block.
            block: the rows, float32 (m, d).
            codes: theirs.
        """
        counts = np.zeros((STEPS, block.shape[1] + 1), np.uint64)
        floors = np.full(len(self.vectors), LOWEST, np.float32)
        for owners, rows in close_pairs(self.vectors, block, floors):
            weight = len(rows) // _COUNTED + 1
            owners, rows = owners[::weight], rows[::weight]
            others = self.numbers[owners] != rows + first
            owners, rows = owners[others], rows[others]
            scores = scores_of(self.vectors, owners, block, rows).astype(np.float64)
            steps = np.clip((scores - LOWEST) * 100, 0, STEPS - 1).astype(np.intp)
            differing = np.bitwise_count(self.codes[owners] ^ codes[rows])
            np.add.at(counts, (steps, differing.sum(axis=1, dtype=np.intp)), np.uint64(weight))
        return counts


def _joined(parts: list[tuple[Rows, Rows]]) -> tuple[Rows, Rows]:
    owners, rows = zip(*parts, strict=True)
    return np.concatenate(owners), np.concatenate(rows)
