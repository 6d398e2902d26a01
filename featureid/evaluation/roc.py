"""Verification: which pairs are accepted at a threshold, and the figures that follow from it.

A pair is **same** if both images show the same person or class, and **different** otherwise. It is
accepted if its score reaches the threshold. The **false-accept rate** (FAR) is the share of the
different pairs that are accepted, the **true-accept rate** (TAR) that of the same pairs. Pairs of
an image without a feature ID are part of both, and are never accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: The false-accept rates for which evaluation gives the true-accept rate.
FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
#: A rate that fewer different pairs are expected to reach by chance is not given (rule of three).
LEAST_FALSE_ACCEPTS = 3
#: One that rests on fewer is given with a warning.
ENOUGH_FALSE_ACCEPTS = 30
# Counts are sums of floats in a bootstrap sample.
_SLACK = 1 + 1e-12


@dataclass(frozen=True)
class Roc:
    """The receiver operating characteristic of some pairs.

    Attributes:
        thresholds: (l,), descending.
        same: number of same pairs that reach each, (l,), ascending; a sum of weights in a sample.
        different: number of different pairs that do, (l,).
        same_total: number of all same pairs.
        different_total: number of all different pairs.
    """

    thresholds: Floats
    same: Floats
    different: Floats
    same_total: float
    different_total: float

    @classmethod
    def of(cls, scores: Floats, same: Flags) -> Roc:
        """Return that of pairs with these scores, (p,)."""
        order = np.argsort(-scores, kind="stable")
        return Ranks(scores[order], same[order]).roc(np.ones(len(scores)))

    @classmethod
    def of_counts(cls, levels: Floats, same: Floats, different: Floats) -> Roc:
        """Return that of numbers of pairs by score.

        Args:
            levels: scores (l,), ascending.
            same: number of same pairs by score, (l,).
            different: number of different pairs by score, (l,).
        """
        filled = np.flatnonzero((same > 0) | (different > 0))[::-1]
        return cls(
            levels[filled],
            np.cumsum(same[filled]),
            np.cumsum(different[filled]),
            float(same.sum()),
            float(different.sum()),
        )

    def with_failures(self, same: float, different: float) -> Roc:
        """Return this one with more pairs that are never accepted."""
        totals = self.same_total + same, self.different_total + different
        return Roc(self.thresholds, self.same, self.different, *totals)

    @property
    def far(self) -> Floats:
        """False-accept rates from accepting none to accepting all, (l + 2,)."""
        return np.concatenate([[0], self.different / self.different_total, [1]])

    @property
    def tar(self) -> Floats:
        """True-accept rates, parallel to :attr:`far`."""
        return np.concatenate([[0], self.same / self.same_total, [1]])

    def auc(self) -> float:
        """Return the area under the curve: how often a same pair scores more than a different one.

        Those that score the same count half.
        """
        return float(np.trapezoid(self.tar, self.far))

    def eer(self) -> float:
        """Return the equal error rate, between two points of the curve by linear interpolation."""
        far, frr = self.far, 1 - self.tar
        # The first point accepts none and rejects all, the last the reverse.
        after = int(np.argmax(far >= frr))
        gap = frr - far
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(far[after - 1] + share * (far[after] - far[after - 1]))

    def threshold_at(self, far: float) -> float:
        """Return the lowest threshold of :attr:`thresholds` at which the FAR is not exceeded.

        Returns:
            Infinity if even the highest score exceeds it.
        """
        place = self._place_at(far)
        return float(self.thresholds[place]) if place >= 0 else float("inf")

    def tar_at(self, far: float) -> float:
        """Return the true-accept rate at :meth:`threshold_at`."""
        place = self._place_at(far)
        return float(self.same[place] / self.same_total) if place >= 0 else 0.0

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """Return the false-accept and the true-accept rate at a threshold."""
        place = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        if place < 0:
            return 0.0, 0.0
        return (
            float(self.different[place] / self.different_total),
            float(self.same[place] / self.same_total),
        )

    def false_accepts(self, far: float) -> float:
        """Return how many of the different pairs a false-accept rate stands for."""
        return far * self.different_total

    def carries(self, far: float) -> bool:
        """Return whether there are different pairs enough to say anything at a FAR."""
        return self.false_accepts(far) * _SLACK >= LEAST_FALSE_ACCEPTS

    def _place_at(self, far: float) -> int:
        allowed = far * self.different_total * _SLACK
        return int(np.searchsorted(self.different, allowed, side="right")) - 1


class Ranks:
    """Pairs in the order of their scores, from which the curve of any weights is quickly made.

    Args:
        scores: (p,), descending.
        same: whether each pair is of one class, (p,).
        coarse: leave out thresholds between which no same pair lies. AUC, EER and true-accept rates
            are the same, and :meth:`Roc.threshold_at` is a little higher.
    """

    def __init__(self, scores: Floats, same: Flags, coarse: bool = False) -> None:
        self._same, self._different = np.flatnonzero(same), np.flatnonzero(~same)
        # The number of pairs that reach each score.
        ends = np.flatnonzero(np.append(np.diff(scores) != 0, True)) + 1
        counts = np.searchsorted(self._same, ends), np.searchsorted(self._different, ends)
        if coarse:
            more = np.diff(counts[0], prepend=0) > 0
            kept = more | np.append(more[1:], True)
            ends, counts = ends[kept], (counts[0][kept], counts[1][kept])
        self._counts = counts
        self._thresholds = scores[ends - 1].astype(np.float64)

    def roc(self, weights: Floats) -> Roc:
        """Return the curve of pairs of these weights, (p,)."""
        same, different = _sums(weights[self._same]), _sums(weights[self._different])
        return Roc(
            self._thresholds,
            same[self._counts[0]],
            different[self._counts[1]],
            float(same[-1]),
            float(different[-1]),
        )


def _sums(weights: Floats) -> Floats:
    """Return the sums of the first 0, 1, ... weights."""
    sums: Floats = np.concatenate([[0], np.cumsum(weights)])
    return sums
