"""What a collection's own scores say of a threshold: how many pairs would reach it by chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.collection import Collection
from featureid.matching.duplicates import DuplicateOptions, Duplicates
from featureid.matching.scores import query_vectors, row_vectors

Scores = npt.NDArray[np.float32]

_SEED = 20261129
_BINS = 40
# Rows whose pairs are counted: 2 million pairs.
_SAMPLE = 2000
# The tail is followed from the scores that so many of the pairs exceed; fewer pairs than 100 / the
# second one are too few to find it.
_TAIL = (1e-3, 1e-4)
_LEAST_PAIRS = 100_000


@dataclass(frozen=True)
class Histogram:
    """Scores of random pairs of rows that are in no group together.

    Attributes:
        edges: of the bins, from lowest to highest, one more than there are bins.
        counts: pairs by bin.
        pairs: how many pairs were compared in all, by every method.
        false_pairs: how many of all pairs are expected to reach the threshold though they show
            different things; None if there are too few rows to say.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    pairs: int
    false_pairs: float | None

    @property
    def sampled(self) -> int:
        """Number of pairs in the bins."""
        return sum(self.counts)


def histogram_of(rows: Collection, found: Duplicates, options: DuplicateOptions) -> Histogram:
    """Return the scores of a random sample, always the same, of the pairs that were compared.

    Args:
        rows: what was compared.
        found: the groups that were found, whose own pairs do not count.
        options: how they were found.
    """
    random = np.random.default_rng(_SEED)
    drawn = np.sort(random.choice(len(rows), min(_SAMPLE, len(rows)), replace=False))
    group = np.full(len(rows), -1)
    for number, members in enumerate(found.groups):
        group[[member.row for member in members.members]] = number
    one, other = np.triu_indices(len(drawn), 1)
    label, origin = group[drawn], rows.origin[drawn]
    counted = (label[one] != label[other]) | (label[one] < 0)
    both_known = (origin[one] == 1) & (origin[other] == 1)
    counted &= origin[one] != origin[other] if options.across else ~both_known
    some = rows.take(drawn)
    products = (
        query_vectors(some.vectors, some.corrections)
        @ row_vectors(some.vectors, some.corrections).T
    )
    scores = np.minimum(products[one, other][counted], np.float32(1))
    counts, edges = np.histogram(scores, np.linspace(-1, 1, _BINS + 1))
    new, known = (int((rows.origin == origin).sum()) for origin in (0, 1))
    pairs = new * known + (0 if options.across else new * (new - 1) // 2)
    rate = tail_rate(scores, options.threshold)
    return Histogram(
        tuple(round(edge, 2) for edge in edges.tolist()),
        tuple(counts.tolist()),
        pairs,
        None if rate is None else rate * pairs,
    )


def tail_rate(scores: Scores, threshold: float) -> float | None:
    """Return the share of pairs like these that reach a threshold.

    Beyond the score that one in 10,000 exceeds, the share is taken to fall as steeply as from one
    in 1,000 to there. Scores of different images fall more steeply, so this is rather too many.

    Args:
        scores: of random pairs, (p,).
        threshold: the lowest score that counts.

    Returns:
        The share; None if there are fewer than 100,000 scores.
    """
    if len(scores) < _LEAST_PAIRS:
        return None
    first, second = np.quantile(scores, [1 - share for share in _TAIL]).tolist()
    if threshold <= second or second <= first:
        return float((scores >= np.float32(threshold)).mean())
    steps = (threshold - second) / (second - first)
    return _TAIL[1] * math.pow(_TAIL[1] / _TAIL[0], steps)
