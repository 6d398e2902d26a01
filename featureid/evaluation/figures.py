"""The figures of an evaluation, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.evaluation.bootstrap import (
    SAMPLES,
    SEED,
    Interval,
    curve_intervals,
    mean_interval,
)
from featureid.evaluation.folds import accuracy_of, fold_pairs
from featureid.evaluation.retrieval import nearest_of
from featureid.evaluation.roc import ENOUGH_FALSE_ACCEPTS, FARS, Roc
from featureid.evaluation.trials import (
    NO_SCORE,
    Images,
    Trials,
    compare_all,
    compare_listed,
)

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

DEFAULT_K = 5
# An interval over fewer classes says little.
_ENOUGH_CLASSES = 100
_HARDEST = 10


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        value: of all pairs or images.
        interval: the values of 95 % of the bootstrap samples of classes.
    """

    value: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """Return it with six digits."""
        return {
            "value": round(self.value, 6),
            "interval": [round(end, 6) for end in self.interval],
        }


@dataclass(frozen=True)
class Rate:
    """The true-accept rate at a false-accept rate.

    Attributes:
        far: the false-accept rate.
        tar: the true-accept rate; None if there are too few different pairs to tell.
        threshold: the lowest score that is accepted; None likewise.
        false_accepts: how many different pairs the false-accept rate stands for.
    """

    far: float
    tar: Figure | None
    threshold: float | None
    false_accepts: float

    @property
    def is_weak(self) -> bool:
        """Whether it rests on few false accepts."""
        return self.tar is not None and self.false_accepts < ENOUGH_FALSE_ACCEPTS


@dataclass(frozen=True)
class HardPair:
    """A pair whose score is on the wrong side: keys of both images, and their score."""

    first: str
    second: str
    score: float


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        classes: number of classes, or people.
        same_pairs: number of pairs of one class, with those of images without a feature ID.
        different_pairs: number of pairs of two classes, likewise.
        auc: area under the curve.
        eer: equal error rate.
        rates: true-accept rates by false-accept rate.
        accuracy: of ten folds, as LFW defines it; None if there are too few classes.
        deviation: standard deviation of the accuracy over the folds.
        folds: number of folds.
        rank1: share of the images whose nearest other image is of their class; None for listed
            pairs.
        precision: share of the ``k`` nearest that is; None likewise.
        k: how many.
        hardest_same: pairs of one class that score lowest, lowest first.
        hardest_different: pairs of two classes that score highest, highest first.
        curve: the curve.
    """

    classes: int
    same_pairs: int
    different_pairs: int
    auc: Figure
    eer: Figure
    rates: tuple[Rate, ...]
    accuracy: Figure | None
    deviation: float | None
    folds: int
    rank1: Figure | None
    precision: Figure | None
    k: int
    hardest_same: tuple[HardPair, ...]
    hardest_different: tuple[HardPair, ...]
    curve: Roc


def evaluate(
    images: Images,
    k: int = DEFAULT_K,
    samples: int = SAMPLES,
    progress: Callable[[int], Any] = lambda rows: None,
) -> Evaluation:
    """Evaluate all pairs of labeled images.

    Args:
        images: the images.
        k: for the precision.
        samples: how many samples of the classes an interval is made of.
        progress: called with the number of images that have been compared.

    Raises:
        UsageError: no class has two images with a feature ID, or there is one class only.
    """
    if k < 1:
        raise UsageError(f"`k` is {k}; give 1 or more")
    _check_classes(images)
    trials = compare_all(images, progress)
    drawn = fold_pairs(images.classes, SEED)
    listed = compare_listed(images, *drawn[:2]) if drawn else None
    accuracy = _accuracy(listed, drawn[2], samples) if listed and drawn else None
    nearest = nearest_of(images, k)
    if nearest is None:
        return _evaluation(trials, accuracy, samples)
    classes = images.classes[nearest.images]
    rank1, precision = (
        Figure(
            float(values.mean()),
            mean_interval(
                float(values.mean()), values, lambda w: w[classes], len(images.names), samples
            ),
        )
        for values in (nearest.right, nearest.precision)
    )
    return _evaluation(trials, accuracy, samples, rank1, precision, k)


def evaluate_pairs(
    images: Images, rows: Rows, same: Flags, folds: Rows | None, samples: int = SAMPLES
) -> Evaluation:
    """Evaluate listed pairs.

    Args:
        images: the images of the pairs.
        rows: the two images of each pair, (p, 2).
        same: whether they are of one class, (p,).
        folds: the fold of each pair, (p,); None for no accuracy.
        samples: how many samples of the classes an interval is made of.

    Raises:
        UsageError: all pairs are of one kind.
    """
    if same.all() or not same.any():
        kind = "one person or class" if same.all() else "two people or classes"
        raise UsageError(f"all {len(same)} pairs are of {kind}; list both kinds")
    trials = compare_listed(images, rows, same)
    accuracy = None if folds is None else _accuracy(trials, folds, samples)
    return _evaluation(trials, accuracy, samples)


def few_classes(count: int, what: str = "classes") -> Iterator[str]:
    """Yield a warning if there are too few classes for their intervals to say much."""
    if count < _ENOUGH_CLASSES:
        yield (
            f"{count} {what} are few: with others, the figures may be further off than the "
            f"intervals say; {_ENOUGH_CLASSES} or more are better"
        )


def _check_classes(images: Images) -> None:
    sizes = images.embedded_sizes
    if (sizes > 0).sum() < 2:
        raise UsageError("the images with a feature ID are of fewer than two classes")
    if (sizes < 2).all():
        raise UsageError(
            "no class has two images with a feature ID, so that no pair is of one class"
        )


def _evaluation(
    trials: Trials,
    accuracy: tuple[Figure, float, int] | None,
    samples: int,
    rank1: Figure | None = None,
    precision: Figure | None = None,
    k: int = 0,
) -> Evaluation:
    curve = trials.exact
    figures: dict[str, Callable[[Roc], float]] = {"auc": Roc.auc, "eer": Roc.eer}
    figures |= {str(far): partial(Roc.tar_at, far=far) for far in FARS if curve.carries(far)}
    intervals = curve_intervals(trials, figures, samples)
    found = {name: Figure(figure(curve), intervals[name]) for name, figure in figures.items()}
    rates = tuple(
        Rate(
            far,
            found.get(str(far)),
            curve.threshold_at(far) if curve.carries(far) else None,
            curve.false_accepts(far),
        )
        for far in FARS
    )
    figure, deviation, folds = accuracy or (None, None, 0)
    return Evaluation(
        len(trials.images.names),
        round(curve.same_total),
        round(curve.different_total),
        found["auc"],
        found["eer"],
        rates,
        figure,
        deviation,
        folds,
        rank1,
        precision,
        k,
        _hardest(trials, same=True),
        _hardest(trials, same=False),
        curve,
    )


def _accuracy(trials: Trials, folds: Rows, samples: int) -> tuple[Figure, float, int] | None:
    """Return the accuracy, its deviation and the number of folds; None for a single fold."""
    if len(np.unique(folds)) < 2:
        return None
    accuracy = accuracy_of(trials.scores, trials.same, folds)
    interval = mean_interval(
        accuracy.mean,
        accuracy.right.astype(np.float64),
        trials.weights,
        len(trials.images.names),
        samples,
    )
    return Figure(accuracy.mean, interval), accuracy.deviation, accuracy.folds


def _hardest(trials: Trials, same: bool) -> tuple[HardPair, ...]:
    """Return the pairs with the lowest scores of one class, or the highest of two."""
    scored = np.flatnonzero((trials.same == same) & (trials.scores > NO_SCORE))
    order = np.argsort(trials.scores[scored] * (1 if same else -1), kind="stable")[:_HARDEST]
    keys = trials.images.keys
    return tuple(
        HardPair(keys[one], keys[other], float(trials.scores[pair]))
        for pair in scored[order].tolist()
        for one, other in [trials.rows[pair].tolist()]
    )
