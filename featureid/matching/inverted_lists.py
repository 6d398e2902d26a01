"""Inverted lists: rows grouped around centers, so that a query looks through a few groups alone.

Each row belongs to the list of the nearest of some centers, which k-means has found. The nearest
rows of a query are nearly all in the lists of the centers nearest to it (an inverted file: Jégou,
Douze and Schmid, Product Quantization for Nearest Neighbor Search, 2011). There, FAISS finds
candidates by 4-bit codes of pairs of numbers (a product quantizer), of which the vectors themselves
are compared. How many lists it takes depends on the collection, and is measured on rows of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.candidates import QUERIES_AT_ONCE
from featureid.matching.centers import Centers, highest, k_means, nearness, order_of
from featureid.matching.exact import Blocks, rows_of, search_top
from featureid.matching.recall import Recall
from featureid.parallel import map_in_order
from featureid.storage.arrow import load_package

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.uint8]

#: Of fewer rows no lists are made: exact search takes milliseconds.
FEWEST_ROWS = 20_000
#: Numbers of neighbors whose recall is measured.
NEIGHBORS = 10, 20, 50, 100
#: A code is one of so many, for each pair of numbers.
CODEWORDS = 16

# Candidates for each neighbor that is wanted; hardly any neighbor is not among them.
_CANDIDATES = 10
# Lists of about so many rows, but not more lists than four times the square root of the rows:
# finding the nearest centers would take longer than looking through the lists.
_ROWS_PER_LIST = 200
_SAMPLE_PER_LIST = 32
_CODED_SAMPLE = 1 << 13
# Rows whose neighbors are looked for; the standard error of a recall of 99 % is about 0.15 %.
_SAMPLE = 1000
_STANDARD_ERRORS = 2
# If a search looks through more of the rows than that, it is hardly faster than an exact one.
_MOST_ROWS = 0.25
_SEED = 20261129
_QUERIES_AT_ONCE = 1024


@dataclass(frozen=True)
class Probing:
    """How many lists to look through for the nearest rows of a query.

    Attributes:
        k: how many rows are wanted.
        lists: how many lists.
        share: the share of all rows that they hold, on average.
        found: how many of the ``k`` nearest rows of sampled rows are found there.
        pairs: how many there are.
    """

    k: int
    lists: int
    share: float
    found: int
    pairs: int

    def __post_init__(self) -> None:
        if not (self.k > 0 and self.lists > 0 and 0 <= self.found <= self.pairs > 0):
            raise ValueError(f"invalid probing: {self}")

    @property
    def recall(self) -> Recall:
        """What was measured."""
        return Recall(self.found, self.pairs, k=self.k)


@dataclass(frozen=True)
class InvertedLists:
    """The lists of some rows.

    Attributes:
        centers: float32 (l, d); none if the lists cannot be used.
        sizes: numbers of rows, (l,).
        rows: row numbers, list by list, uint32 (n,).
        codebook: what the codes stand for, float32 (m, 16, d / m): parts of the difference between
            a row and its center.
        codes: of the rows in the order of ``rows``, uint8 (n, m / 2 rounded up).
        probings: what was measured, by ``k``; none of too few rows.
    """

    centers: Matrix
    sizes: Rows
    rows: npt.NDArray[np.uint32]
    codebook: Matrix
    codes: Codes
    probings: tuple[Probing, ...]

    @classmethod
    def of(
        cls, blocks: Blocks, dimension: int, num_rows: int, recall: float, threads: int = 1
    ) -> InvertedLists:
        """Group rows, read three times, and measure how many lists it takes to find most of them.

        Args:
            blocks: the rows.
            dimension: their length.
            num_rows: how many there are.
            recall: the share of the nearest rows that are to be found.
            threads: to use.

        Raises:
            UsageError: faiss is not installed.
        """
        if num_rows < FEWEST_ROWS:
            return cls.none(dimension)
        random = np.random.default_rng(_SEED)
        count = int(min(num_rows // _ROWS_PER_LIST, 4 * num_rows**0.5))
        drawn = min(num_rows, count * _SAMPLE_PER_LIST + _SAMPLE)
        numbers = np.sort(random.choice(num_rows, drawn, replace=False))
        # Rows that have shaped the centers would find more than others.
        measured = np.zeros(drawn, bool)
        measured[random.choice(drawn, _SAMPLE, replace=False)] = True
        sample = rows_of(blocks, numbers, dimension)
        queries, own = sample[measured], numbers[measured]
        shuffled = random.permutation(sample[~measured])
        lists = cls._grouped(blocks, shuffled, count, random, threads)
        neighbors = _neighbors(queries, own, blocks, max(NEIGHBORS), threads)
        probings = lists._measured(queries, neighbors, recall)
        if not any(probing.recall.share >= recall for probing in probings):
            return cls.none(dimension, probings)
        return replace(lists, probings=probings)

    @classmethod
    def none(cls, dimension: int, probings: tuple[Probing, ...] = ()) -> InvertedLists:
        """Return no lists, with what was measured."""
        parts = parts_of(dimension)
        return cls(
            np.empty((0, dimension), np.float32),
            np.empty(0, np.intp),
            np.empty(0, np.uint32),
            np.zeros((parts, CODEWORDS, dimension // parts), np.float32),
            np.empty((0, -(-parts // 2)), np.uint8),
            probings,
        )

    @classmethod
    def _grouped(
        cls,
        blocks: Blocks,
        sample: Matrix,
        count: int,
        random: np.random.Generator,
        threads: int,
    ) -> InvertedLists:
        """Return the lists of rows around centers of a sample of them, which is shuffled."""
        dimension = sample.shape[1]
        faiss = load_package("faiss", "featureid[search]")
        found = Centers.of(sample, count, random, threads)
        quantizer = faiss.ProductQuantizer(dimension, parts_of(dimension), 4)
        some = sample[:_CODED_SAMPLE]
        codebook = _codebook(some - found.centers[found.nearest(some)], random)
        faiss.copy_array_to_vector(codebook.ravel(), quantizer.centroids)

        def coded(block: Matrix) -> tuple[Rows, Codes]:
            nearest = found.nearest(block)
            return nearest, _codes(quantizer, block - found.centers[nearest])

        of_blocks = (pair for _, pair in map_in_order(coded, blocks(), threads))
        nearest, codes = map(np.concatenate, zip(*of_blocks, strict=True))
        rows = order_of(nearest, len(found.centers))
        return cls(
            found.centers,
            np.bincount(nearest, minlength=len(found.centers)),
            rows.astype(np.uint32),
            codebook,
            codes[rows],
            (),
        )

    def probing(self, k: int) -> Probing | None:
        """Return what was measured for ``k`` neighbors, or for the next larger number of them."""
        return next((probing for probing in self.probings if probing.k >= k), None)

    def nearest(self, queries: Matrix, vectors: Matrix, k: int, count: int) -> tuple[Matrix, Rows]:
        """Return about the nearest rows of the lists nearest to each query.

        Args:
            queries: float32 (n, d), contiguous.
            vectors: the rows, float32 (m, d).
            k: how many of them are to be the nearest; the number of lists depends on it.
            count: how many rows to return.

        Returns:
            Approximate scores, float32 (n, count), and row numbers (n, count); a score of minus
            infinity if the lists have fewer rows.

        Raises:
            UsageError: faiss is not installed.
        """
        probing = self.probing(k)
        assert probing is not None
        scores = np.full((len(queries), count), -np.inf, np.float32)
        rows = np.zeros((len(queries), count), np.intp)
        for query, found in enumerate(self._candidates(queries, probing, count)):
            products = vectors[found] @ queries[query]
            best = np.argsort(-products)[:count]
            scores[query, : len(best)] = products[best]
            rows[query, : len(best)] = found[best]
        return scores, rows

    def _candidates(self, queries: Matrix, probing: Probing, count: int = 0) -> Iterator[Rows]:
        """Yield the candidates for the nearest rows of each query, at least ``count`` of them."""
        count = min(len(self.rows), max(count, _CANDIDATES * probing.k))
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = queries[start : start + _QUERIES_AT_ONCE]
            chosen = highest(nearness(part, self.centers), probing.lists)
            # FAISS wants the same number of lists for each k; -1 stands for none.
            lists = np.full((len(part), self._index.nprobe), -1)
            products = np.zeros(lists.shape, np.float32)
            lists[:, : probing.lists] = chosen
            products[:, : probing.lists] = np.take_along_axis(part @ self.centers.T, chosen, axis=1)
            _, found = self._index.search_preassigned(part, count, lists, products)
            for rows in found:
                yield rows[rows >= 0]

    @cached_property
    def _index(self) -> Any:
        faiss = load_package("faiss", "featureid[search]")
        dimension = self.centers.shape[1]
        centers = faiss.IndexFlatIP(dimension)
        centers.add(self.centers)
        index = faiss.IndexIVFPQ(
            centers, dimension, len(self.centers), len(self.codebook), 4, faiss.METRIC_INNER_PRODUCT
        )
        faiss.copy_array_to_vector(self.codebook.ravel(), index.pq.centroids)
        index.is_trained = True
        rows, first = self.rows.astype(np.int64), 0
        for number, size in enumerate(self.sizes.tolist()):
            end = first + size
            mine, codes = rows[first:end], self.codes[first:end]
            index.invlists.add_entries(number, size, faiss.swig_ptr(mine), faiss.swig_ptr(codes))
            first = end
        index.ntotal = len(rows)
        fast = faiss.IndexIVFPQFastScan(index)
        fast.nprobe = max((p.lists for p in self.probings), default=len(self.centers))
        return fast

    def _measured(self, queries: Matrix, neighbors: Rows, recall: float) -> tuple[Probing, ...]:
        """Return the fewest lists that find as much as wanted, or else the most that are worth it.

        Args:
            queries: float32 (n, d).
            neighbors: their nearest rows, (n, m).
            recall: the share of the neighbors to find.
        """
        # Those of the nearest centers first.
        order = np.argsort(-nearness(queries, self.centers), axis=1, kind="stable")
        shares = self.sizes[order].cumsum(axis=1).mean(axis=0) / len(self.rows)
        most = max(1, int(np.searchsorted(shares, _MOST_ROWS, side="right")))
        list_of = np.empty(len(self.rows), np.intp)
        list_of[self.rows] = np.repeat(np.arange(len(self.sizes)), self.sizes)
        # How many lists are nearer to a query than that of its neighbor.
        ranks = np.take_along_axis(np.argsort(order, axis=1), list_of[neighbors], axis=1)
        probings = []
        for k in NEIGHBORS:
            lists = min(most, _fewest(ranks[:, :k], len(self.centers), recall))
            probing, least = self._probing(queries, neighbors[:, :k], lists, shares)
            # Of the rows of the lists, the codes lose some.
            while least < recall and lists < most:
                lists = min(most, lists + max(1, lists // 8))
                probing, least = self._probing(queries, neighbors[:, :k], lists, shares)
            probings.append(probing)
        return tuple(probings)

    def _probing(
        self, queries: Matrix, neighbors: Rows, lists: int, shares: npt.NDArray[np.floating]
    ) -> tuple[Probing, float]:
        """Return what is found of the neighbors of queries, (n, k), in so many lists.

        The number beside it is the recall that other queries will find with some certainty.
        """
        probing = Probing(neighbors.shape[1], lists, round(float(shares[lists - 1]), 4), 0, 1)
        is_found, found = np.zeros(len(self.rows), np.bool_), []
        for mine, rows in zip(neighbors, self._candidates(queries, probing), strict=True):
            is_found[rows] = True
            found.append(int(is_found[mine].sum()))
            is_found[rows] = False
        least = float(_certain(np.array(found) / neighbors.shape[1]))
        return replace(probing, found=sum(found), pairs=neighbors.size), least


def _fewest(ranks: Rows, lists: int, recall: float) -> int:
    """Return the fewest lists that find as much as wanted, with some certainty; all if none do.

    Args:
        ranks: how many lists are nearer to a query than that of its neighbor, (n, k).
        lists: how many there are.
        recall: the share of the neighbors to find.
    """
    counts = np.zeros((len(ranks), lists), np.float32)
    np.add.at(counts, (np.arange(len(ranks))[:, np.newaxis], ranks), 1)
    found = counts.cumsum(axis=1) / ranks.shape[1]
    enough = _certain(found) >= recall
    return int(np.argmax(enough)) + 1 if enough.any() else lists


def _certain(shares: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return what the mean of shares, (n, ...), is at least, with some certainty."""
    errors = shares.std(axis=0) / len(shares) ** 0.5
    return np.asarray(shares.mean(axis=0) - _STANDARD_ERRORS * errors)


def parts_of(dimension: int) -> int:
    """Return how many codes a vector has: one for two numbers, or for each if they are odd."""
    return dimension // 2 if dimension % 2 == 0 else dimension


def _codebook(differences: Matrix, random: np.random.Generator) -> Matrix:
    """Return what codes of the parts of vectors stand for, float32 (m, 16, d / m)."""
    # Not by FAISS, whose threads would wait for each other most of the time.
    parts = np.split(differences, parts_of(differences.shape[1]), axis=1)
    return np.stack([k_means(part, CODEWORDS, random) for part in parts])


def _codes(quantizer: Any, differences: Matrix) -> Codes:
    """Return the codes of rows, on this thread alone: FAISS's would wait for each other."""
    faiss = load_package("faiss", "featureid[search]")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        codes: Codes = quantizer.compute_codes(differences)
    finally:
        faiss.omp_set_num_threads(threads)
    return codes


def _neighbors(queries: Matrix, own: Rows, blocks: Blocks, k: int, threads: int) -> Rows:
    """Return the nearest other rows of some rows, (n, k)."""

    def found(part: slice) -> Rows:
        nearest = search_top(queries[part], blocks, k + 1, lambda rows: rows)
        return np.stack(
            [
                np.concatenate([matches.rows[matches.rows != row], matches.rows[-1:]])[:k]
                for row, matches in zip(own[part], nearest, strict=True)
            ]
        )

    starts = range(0, len(queries), QUERIES_AT_ONCE)
    parts = (slice(start, start + QUERIES_AT_ONCE) for start in starts)
    return np.concatenate([rows for _, rows in map_in_order(found, parts, threads)])
