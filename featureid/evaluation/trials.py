"""Trials: scores of pairs of labeled images, either all pairs or a list of them.

All pairs are compared block by block. Up to 4 million scores are held. Of more, they are counted by
score, to 2e-6, and a sample is held for intervals: all of the hardest pairs, that is, different
ones that score high and same ones that score low, and of the others ever fewer, each of which
stands for several.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.evaluation.roc import Ranks, Roc
from featureid.matching.scores import query_vectors, row_vectors, scores_of

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
Matrix = npt.NDArray[np.float32]

#: The score of a listed pair that was never made, since an image has no feature ID.
NO_SCORE = -4.0
# Rows of a block, and products of two blocks at most.
_PRODUCTS = 1 << 22
_MAX_HELD = 1 << 22
_BINS = 1 << 20
_SEED = 20261129
# Of each kind of pairs, so many of the hardest are in the sample; of those behind them, about as
# many in each group that is four times as large.
_SAMPLED = 1 << 15


@dataclass(frozen=True)
class Images:
    """Labeled images.

    Attributes:
        keys: image keys; those with a feature ID first.
        vectors: feature IDs, float32 (v, d); the images after the first v have none.
        classes: number of each image's class, (n,), from 0.
        names: of the classes.
        corrections: what scores are corrected by, float32 (v,), see
            :mod:`featureid.matching.scores`; None for plain scores.
    """

    keys: tuple[str, ...]
    vectors: Matrix
    classes: Rows
    names: tuple[str, ...]
    corrections: Matrix | None = None

    @property
    def embedded(self) -> int:
        """Number of images with a feature ID."""
        return len(self.vectors)

    def sides(self) -> tuple[Matrix, Matrix]:
        """Return the feature IDs as those that are searched for, and as those that are searched."""
        found, corrections = self.vectors, self.corrections
        return query_vectors(found, corrections), row_vectors(found, corrections)

    @property
    def sizes(self) -> Floats:
        """Number of images of each class."""
        return np.bincount(self.classes, minlength=len(self.names)).astype(np.float64)

    @property
    def embedded_sizes(self) -> Floats:
        """Number of images of each class with a feature ID."""
        found = self.classes[: self.embedded]
        return np.bincount(found, minlength=len(self.names)).astype(np.float64)


@dataclass(frozen=True)
class Trials:
    """Pairs and their scores, all of them or a sample, the highest score first.

    Attributes:
        images: what the rows are.
        rows: the two images of each pair, (p, 2).
        scores: (p,).
        same: whether they are of one class, (p,).
        shares: how many pairs each stands for, (p,).
        all_pairs: whether the pairs are all that there are, and not listed ones.
        exact: the curve of all pairs.
    """

    images: Images
    rows: Rows
    scores: Floats
    same: Flags
    shares: Floats
    all_pairs: bool
    exact: Roc = field(repr=False)

    @classmethod
    def of(
        cls,
        images: Images,
        rows: Rows,
        scores: Floats,
        same: Flags,
        *,
        shares: Floats | None = None,
        all_pairs: bool = False,
        exact: Roc | None = None,
    ) -> Trials:
        """Return trials of pairs in any order.

        Args:
            images: what the rows are.
            rows: the two images of each pair, (p, 2).
            scores: (p,).
            same: whether they are of one class, (p,).
            shares: how many pairs each stands for, (p,); None for one.
            all_pairs: whether these are all pairs of the images that have a feature ID, or a sample
                of them.
            exact: the curve of all of these; None if this is no sample.
        """
        order = np.argsort(-scores, kind="stable")
        shares = np.ones(len(rows)) if shares is None else shares[order]
        scores, same = scores[order], same[order]
        curve = exact or Ranks(scores, same).roc(shares)
        trials = cls(images, rows[order], scores, same, shares, all_pairs, curve)
        failed = trials.failed(np.ones(len(images.names)))
        return replace(trials, exact=curve.with_failures(*failed))

    @functools.cached_property
    def _classes(self) -> tuple[Rows, Rows]:
        one, other = self.images.classes[self.rows].T
        return np.ascontiguousarray(one), np.ascontiguousarray(other)

    def weights(self, by_class: Floats) -> Floats:
        """Return the weight of each pair, (p,), from that of each class, (c,).

        A class that was drawn twice has two copies of its same pairs, and with another class twice
        the pairs; pairs of a class with its copy do not count.
        """
        one, other = (by_class[classes] for classes in self._classes)
        other[self.same] = 1
        return self.shares * one * other

    def failed(self, by_class: Floats) -> tuple[float, float]:
        """Return the weight of the pairs without a score, same and different ones."""
        if not self.all_pairs:
            return 0.0, 0.0  # Listed ones have NO_SCORE.
        (same, different), (scored, others) = (
            _numbers_of_pairs(sizes, by_class)
            for sizes in (self.images.sizes, self.images.embedded_sizes)
        )
        return same - scored, different - others


def compare_all(images: Images, progress: Callable[[int], Any] = lambda rows: None) -> Trials:
    """Compare every image with every other.

    Args:
        images: at least two classes, and two images of one of them.
        progress: called with the number of rows that have been compared.
    """
    total = images.embedded * (images.embedded - 1) // 2
    if total <= _MAX_HELD:
        parts = [*_blocks(images, progress)]
        rows = np.concatenate([part[0] for part in parts])
        scores = np.concatenate([part[1] for part in parts]).astype(np.float64)
        same = np.concatenate([part[2] for part in parts])
        return Trials.of(images, rows, scores, same, all_pairs=True)
    same_counts, counts = _count(images, progress)
    different_counts = counts - same_counts
    levels = np.arange(_BINS, dtype=np.float64) * (2 / _BINS) - 1
    exact = Roc.of_counts(levels, same_counts, different_counts)
    chances = _chances(same_counts), _chances(different_counts[::-1])[::-1]
    rows, scores, same, shares = _drawn(images, chances)
    return Trials.of(images, rows, scores, same, shares=shares, all_pairs=True, exact=exact)


def compare_listed(images: Images, rows: Rows, same: Flags) -> Trials:
    """Compare listed pairs.

    Args:
        images: all images of the pairs.
        rows: the two images of each pair, (p, 2).
        same: whether they are of one class, (p,).
    """
    queries, vectors = images.sides()
    scores = np.full(len(rows), NO_SCORE)
    there = (rows < images.embedded).all(axis=1)
    one, other = rows[there].T
    scores[there] = scores_of(queries, one, vectors, other)
    return Trials.of(images, rows, scores, same)


def _numbers_of_pairs(sizes: Floats, by_class: Floats) -> tuple[float, float]:
    weighted = by_class * sizes
    same = by_class @ (sizes * (sizes - 1) / 2)
    return float(same), float((weighted.sum() ** 2 - weighted @ weighted) / 2)


def _products(images: Images) -> Iterator[tuple[int, Matrix, Flags, Flags]]:
    """Yield the scores of some rows with all from the first of them on, as matrix products.

    They differ from those of :mod:`featureid.matching.scores` by rounding, some 1e-7.

    Yields:
        Number of the first row, scores (b, m), whether each pair is of one class, (b, m), and
        whether each counts, (b, m): not a row with itself, and no pair twice.
    """
    queries, vectors = images.sides()
    classes = images.classes[: images.embedded]
    step = max(1, min(len(vectors), _PRODUCTS // max(1, len(vectors))))
    for start in range(0, len(vectors), step):
        some = slice(start, start + step)
        scores = queries[some] @ vectors[start:].T
        same = classes[some, np.newaxis] == classes[np.newaxis, start:]
        later = np.arange(scores.shape[1]) > np.arange(len(scores))[:, np.newaxis]
        yield start, scores, same, later


def _blocks(images: Images, progress: Callable[[int], Any]) -> Iterator[tuple[Rows, Matrix, Flags]]:
    """Yield all pairs: the two rows (p, 2), the score and whether they are of one class."""
    for start, scores, same, later in _products(images):
        one, other = np.nonzero(later)
        yield np.stack([one, other], axis=1) + start, scores[later], same[later]
        progress(len(scores))


def _bins(scores: Matrix) -> Rows:
    bins: Rows = np.clip((scores + 1) * np.float32(_BINS / 2), 0, _BINS - 1).astype(np.intp)
    return bins


def _count(images: Images, progress: Callable[[int], Any]) -> tuple[Floats, Floats]:
    """Return how many pairs there are by score, (bins,): of one class, and in all."""
    counts = np.zeros((2, _BINS), np.int64)
    for _, scores, same, later in _products(images):
        bins = _bins(scores)
        for number, pairs in enumerate((same & later, later)):
            counts[number] += np.bincount(bins[pairs], minlength=_BINS)
        progress(len(scores))
    return counts[0].astype(np.float64), counts[1].astype(np.float64)


def _chances(counts: Floats) -> Floats:
    """Return the chance of a pair of each score to be in the sample, (bins,); the hard end first.

    Of each group, as large as all before it times three, about the same number of pairs is drawn.
    """
    before = np.cumsum(counts) - counts
    group = np.ceil(np.log(np.maximum(before / _SAMPLED, 1)) / np.log(4))
    chances: Floats = 4.0**-group
    return chances


def _drawn(images: Images, chances: tuple[Floats, Floats]) -> tuple[Rows, Floats, Flags, Floats]:
    """Return a sample of the pairs: rows, scores, whether they are of one class, and shares."""
    random = np.random.default_rng(_SEED)
    parts = []
    for start, scores, same, later in _products(images):
        bins = _bins(scores)
        chance = np.where(same, chances[0][bins], chances[1][bins])
        drawn = later & (random.random(scores.shape, np.float32) < chance)
        one, other = np.nonzero(drawn)
        rows = np.stack([one, other], axis=1) + start
        parts.append((rows, scores[drawn].astype(np.float64), same[drawn], 1 / chance[drawn]))
    rows, values, alike, shares = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, values, alike, shares
