"""Accuracy as Labeled Faces in the Wild defines it: ten folds, each judged by the other nine.

For each fold, the threshold is the one at which most pairs of the other folds are classified right,
the lowest of several; candidates are the scores that occur there. The accuracy is the mean of those
of the folds. A pair of an image without a feature ID is wrong in any case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.evaluation.trials import NO_SCORE

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

FOLDS = 10


@dataclass(frozen=True)
class Accuracy:
    """How many pairs are classified right.

    Attributes:
        mean: over the folds.
        deviation: standard deviation over the folds.
        folds: number of folds.
        right: whether each pair is, (p,), by the threshold of its fold.
    """

    mean: float
    deviation: float
    folds: int
    right: Flags


def accuracy_of(scores: Floats, same: Flags, folds: Rows) -> Accuracy:
    """Return the accuracy of pairs.

    Args:
        scores: (p,); NO_SCORE for pairs of an image without a feature ID.
        same: whether they are of one class, (p,).
        folds: the fold of each pair, (p,); at least two.
    """
    numbers = np.unique(folds)
    right = np.zeros(len(scores), bool)
    for number in numbers:
        own = folds == number
        threshold = best_threshold(scores[~own], same[~own])
        right[own] = (scores[own] >= threshold) == same[own]
    right &= scores > NO_SCORE
    means = [right[folds == number].mean() for number in numbers]
    return Accuracy(float(np.mean(means)), float(np.std(means, ddof=1)), len(numbers), right)


def best_threshold(scores: Floats, same: Flags) -> float:
    """Return the lowest score at which most pairs, (p,), are classified right."""
    order = np.argsort(scores, kind="stable")
    ordered, alike = scores[order], same[order]
    firsts = np.flatnonzero(np.append(True, np.diff(ordered) != 0))
    # Right are the same pairs from a threshold on, and the different ones below it.
    below = np.concatenate([[0], np.cumsum(np.where(alike, -1, 1))])[firsts]
    return float(ordered[firsts[int(np.argmax(below))]])


def fold_pairs(
    classes: Rows, seed: int, per_fold: int = 300, folds: int = FOLDS
) -> tuple[Rows, Flags, Rows] | None:
    """Draw pairs as LFW has them: in each fold other classes, and as many same as different pairs.

    Args:
        classes: number of each image's class, (n,).
        seed: of the random numbers.
        per_fold: pairs of each kind in a fold, at most.
        folds: how many, if there are twice as many classes.

    Returns:
        The two images of each pair, (p, 2), whether they are of one class, (p,), and the fold of
        each, (p,); None if there are too few classes with two images for two folds.
    """
    random = np.random.default_rng(seed)
    images = [np.flatnonzero(classes == number) for number in np.unique(classes)]
    several = [some for some in images if len(some) > 1]
    single = [some for some in images if len(some) == 1]
    folds = min(folds, len(several) // 2)
    if folds < 2:
        return None
    drawn: list[tuple[int, int, bool, int]] = []
    for kind in (several, single):
        random.shuffle(kind)
    for fold in range(folds):
        mine = several[fold::folds] + single[fold::folds]
        pairs = _same_pairs(mine, random, per_fold)
        others = _different_pairs(mine, random, len(pairs))
        drawn += [(*pair, True, fold) for pair in pairs]
        drawn += [(*pair, False, fold) for pair in others]
    table = np.array(drawn)
    return table[:, :2].astype(np.intp), table[:, 2].astype(bool), table[:, 3].astype(np.intp)


def _same_pairs(
    classes: list[Rows], random: np.random.Generator, number: int
) -> list[tuple[int, int]]:
    """Return different pairs of images of one class, as even over the classes as they allow."""
    by_class = []
    for images in classes:
        one, other = np.triu_indices(len(images), 1)
        order = random.permutation(len(one))[:number]
        pairs = images[one[order]].tolist(), images[other[order]].tolist()
        by_class.append([*zip(*pairs, strict=True)])
    rounds = max(map(len, by_class))
    turns = [pairs[turn] for turn in range(rounds) for pairs in by_class if turn < len(pairs)]
    return turns[:number]


def _different_pairs(
    classes: list[Rows], random: np.random.Generator, number: int
) -> list[tuple[int, int]]:
    """Return pairs of images of two classes, none twice."""
    found: dict[tuple[int, int], None] = {}
    for _ in range(number * 20):
        if len(found) == number:
            break
        one, other = random.choice(len(classes), 2, replace=False)
        pair = int(random.choice(classes[one])), int(random.choice(classes[other]))
        found[min(pair), max(pair)] = None
    return [*found]
