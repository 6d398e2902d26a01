"""Confidence intervals: what the figures would be with other people.

Pairs are not independent: each image is in many of them. So classes (people) are drawn, with
replacement, as often as there are, and each sample has the pairs of those that were drawn. The
interval of 95 % goes from the 2.5th to the 97.5th percentile of the samples' figures, and at least
as far as their spread reaches on the scale of the log odds: near 0 and 1, a figure rests on few
images, and percentiles alone are too narrow. An AUC near 1 rests on so few that even its spread is
underestimated, so that its interval is wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from featureid.evaluation.roc import Ranks, Roc
from featureid.evaluation.trials import Trials

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

SAMPLES = 1000
SEED = 20261129
_PERCENTILES = (2.5, 97.5)
_DEVIATIONS = 1.96  # of the normal distribution, for 95 %
# With as few people as 3 or 4 behind most of the spread, which is usual, Student's distribution has
# about so many; benchmarks/intervals.py shows what they hold.
_DEVIATIONS_OF_AUC = 2.4
# Rule of three: what has never been seen in n cases happens, at 95 %, in less than 3 / n.
_UNSEEN = 3
# Of log odds; more is 0 or 1 to 13 digits.
_MOST = 30.0


def class_weights(classes: int, samples: int = SAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """Yield how often each class is drawn, (classes,), sample by sample."""
    random = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = random.integers(0, classes, classes)
        yield np.bincount(drawn, minlength=classes).astype(np.float64)


def sampled_curves(
    trials: Trials, samples: int = SAMPLES, seed: int = SEED, coarse: bool = False
) -> Iterator[Roc]:
    """Yield the curves of samples of the classes; one without both kinds of pairs is left out.

    Args:
        trials: the pairs.
        samples: how many are drawn.
        seed: of the random numbers.
        coarse: with fewer thresholds, see :class:`featureid.evaluation.roc.Ranks`.
    """
    ranks = Ranks(trials.scores, trials.same, coarse)
    for by_class in class_weights(len(trials.images.names), samples, seed):
        curve = ranks.roc(trials.weights(by_class)).with_failures(*trials.failed(by_class))
        if curve.same_total > 0 and curve.different_total > 0:
            yield curve


def curve_intervals(
    trials: Trials,
    figures: Mapping[str, Callable[[Roc], float]],
    samples: int = SAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Return the interval of each figure of a curve.

    Args:
        trials: the pairs.
        figures: name -> what makes the figure of a curve.
        samples: how many are drawn.
        seed: of the random numbers.
    """
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for curve in sampled_curves(trials, samples, seed, coarse=True):
        for name, figure in figures.items():
            drawn[name].append(figure(curve))
    cases = len(trials.images.names)
    return {
        name: share_interval(
            figure(trials.exact),
            drawn[name],
            cases,
            _DEVIATIONS_OF_AUC if figure == Roc.auc else _DEVIATIONS,
        )
        for name, figure in figures.items()
    }


def mean_interval(
    mean: float,
    values: Floats,
    weights: Callable[[Floats], Floats],
    classes: int,
    samples: int = SAMPLES,
) -> Interval:
    """Return the interval of the mean of shares.

    Args:
        mean: their mean.
        values: (v,), from 0 to 1.
        weights: returns the weight of each value, (v,), from that of each class, (classes,).
        classes: number of classes.
        samples: how many are drawn.
    """
    means = []
    for by_class in class_weights(classes, samples):
        weight = weights(by_class)
        if weight.sum() > 0:
            means.append(float(np.average(values, weights=weight)))
    return share_interval(mean, means, classes)


def share_interval(
    share: float, drawn: Sequence[float], cases: float, deviations: float = _DEVIATIONS
) -> Interval:
    """Return the interval of a share.

    Args:
        share: from 0 to 1.
        drawn: what it is in samples.
        cases: in how many cases a share of 0 was not seen once, or one of 1 always.
        deviations: how many standard deviations it reaches at least, on the scale of the log odds.
    """
    if share in (0, 1):
        low, high = min(drawn, default=share), max(drawn, default=share)
        unseen = min(1, _UNSEEN / cases)
        return (0.0, max(high, unseen)) if share == 0 else (min(low, 1 - unseen), 1.0)
    low, high = percentile_interval(drawn)
    odds = math.log(share / (1 - share))
    reach = min(deviations * float(np.std(drawn)) / (share * (1 - share)), _MOST)
    least, most = 1 / (1 + math.exp(reach - odds)), 1 / (1 + math.exp(-reach - odds))
    return min(low, least), max(high, most)


def percentile_interval(figures: Sequence[float]) -> Interval:
    """Return the interval that has 95 % of some figures."""
    low, high = np.percentile(figures, _PERCENTILES)
    return float(low), float(high)
