"""Figures of evaluation against plain computations, and the honesty of their intervals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import UsageError
from featureid.evaluation import trials
from featureid.evaluation.bootstrap import curve_intervals
from featureid.evaluation.figures import evaluate, evaluate_pairs
from featureid.evaluation.folds import accuracy_of, fold_pairs
from featureid.evaluation.retrieval import nearest_of
from featureid.evaluation.roc import Roc
from featureid.evaluation.trials import NO_SCORE, Images, compare_all, compare_listed
from tests.matching_samples import unit


def people(number: int, views: int, seed: int, noise: float = 0.5, failed: int = 0) -> Images:
    """People with several views each, the last ``failed`` images of them without a feature ID."""
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(number), views)
    random.shuffle(classes)
    centers = random.standard_normal((number, 16))
    vectors = unit(centers[classes] + noise * random.standard_normal((len(classes), 16)))
    keys = tuple(f"{row}.jpg" for row in range(len(classes)))
    names = tuple(map(str, range(number)))
    return Images(keys, vectors[: len(classes) - failed], classes, names)


def brute_force(images: Images) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Scores of all pairs and whether they are of one class; -9 for those of failures."""
    scores, same = [], []
    for one in range(len(images.keys)):
        for other in range(one):
            there = max(one, other) < images.embedded
            scores.append(images.vectors[one] @ images.vectors[other] if there else -9)
            same.append(images.classes[one] == images.classes[other])
    return np.array(scores, np.float64), np.array(same)


def plain_auc(scores: npt.NDArray[Any], same: npt.NDArray[Any]) -> float:
    wins = scores[same][:, np.newaxis] - scores[~same]
    return float(((wins > 0) + (wins == 0) / 2).mean())


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2).filter(
        lambda pairs: len({same for _, same in pairs}) == 2
    )
)
def test_the_curve_is_what_plain_counting_gives(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], np.float64)
    same = np.array([alike for _, alike in pairs])
    curve = Roc.of(scores, same)
    assert curve.auc() == pytest.approx(plain_auc(scores, same), abs=1e-12)
    for far in (0, 0.1, 0.25, 0.5, 1):
        threshold = curve.threshold_at(far)
        assert (scores[~same] >= threshold).mean() <= far
        assert curve.tar_at(far) == (scores[same] >= threshold).mean()
        lower = scores[scores < threshold]
        if len(lower):
            assert (scores[~same] >= lower.max()).mean() > far
        assert curve.rates_at(threshold) == ((scores[~same] >= threshold).mean(), curve.tar_at(far))
    points = np.array([(0, 1), *zip(curve.far, 1 - curve.tar, strict=True)])
    gaps = points[:, 0] - points[:, 1]
    after = int(np.argmax(gaps >= 0))
    low, high = sorted([points[after - 1].mean(), points[after].mean()])
    assert low - 1e-12 <= curve.eer() <= high + 1e-12 or curve.eer() in points[after]


def test_the_equal_error_rate_lies_between_two_points() -> None:
    same = np.array([True] * 4 + [False] * 4)
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.2, 0.1, 0.0])
    assert Roc.of(scores, same).eer() == 0.25
    # From (0, 1/2) to (1, 1/2) of the curve: FAR = FRR at 1/2.
    assert Roc.of(np.array([0.9, 0.5, 0.1]), np.array([True, False, True])).eer() == 0.5


@pytest.mark.parametrize("failed", [0, 7])
def test_all_pairs_held_or_counted_give_the_same_figures(
    failed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = people(40, 5, 1, failed=failed)
    scores, same = brute_force(images)
    held = compare_all(images)
    assert (held.exact.same_total, held.exact.different_total) == (same.sum(), (~same).sum())
    assert held.exact.auc() == pytest.approx(plain_auc(scores, same), abs=1e-6)
    for far in (0.1, 0.01, 0.001):
        highest = np.sort(scores[~same])[-1 - int(far * (~same).sum())]
        assert held.exact.tar_at(far) == pytest.approx((scores[same] > highest).mean())
    monkeypatch.setattr(trials, "_MAX_HELD", 0)
    monkeypatch.setattr(trials, "_PRODUCTS", 5000)  # many blocks
    monkeypatch.setattr(trials, "_SAMPLED", 100)
    counted = compare_all(images)
    assert counted.exact.auc() == pytest.approx(held.exact.auc(), abs=1e-5)
    assert counted.exact.tar_at(0.01) == pytest.approx(held.exact.tar_at(0.01), abs=0.005)
    assert len(counted.scores) < len(held.scores) / 4
    for kind, sign in ((True, 1), (False, -1)):
        every = np.sort(sign * held.scores[held.same == kind])
        drawn = np.sort(sign * counted.scores[counted.same == kind])
        # The hardest are all there, and all shares stand for about all pairs.
        assert np.allclose(every[:100], drawn[:100], atol=1e-6)
        assert counted.shares[counted.same == kind].sum() == pytest.approx(len(every), rel=0.15)
    sampled = curve_intervals(counted, {"auc": Roc.auc}, samples=100)["auc"]
    whole = curve_intervals(held, {"auc": Roc.auc}, samples=100)["auc"]
    assert sampled == pytest.approx(whole, abs=0.02)


def test_an_image_without_a_feature_id_is_never_accepted() -> None:
    images = people(30, 4, 2, noise=0.01)
    good, bad = evaluate(images, samples=20), evaluate(people(30, 4, 2, 0.01, 12), samples=20)
    assert (good.auc.value, good.same_pairs) == (1, bad.same_pairs)
    assert good.rank1 is not None and bad.rank1 is not None
    assert good.rank1.value == 1 and bad.rank1.value == pytest.approx(1 - 12 / 120, abs=0.03)
    there = {images.keys[row] for row in range(108)}
    lost = sum(
        images.keys[one] not in there or images.keys[other] not in there
        for one in range(120)
        for other in range(one)
        if images.classes[one] == images.classes[other]
    )
    tar = bad.rates[0].tar
    assert tar is not None and tar.value == pytest.approx(1 - lost / bad.same_pairs)


def test_few_false_accepts_are_weak_and_fewer_are_not_given() -> None:
    found = evaluate(people(20, 5, 3), samples=20)
    assert found.different_pairs == 4750
    given = [(rate.far, rate.tar is not None, rate.is_weak) for rate in found.rates]
    assert given == [
        (0.1, True, False), (0.01, True, False), (0.001, True, True), (1e-4, False, False),
        (1e-5, False, False),
    ]  # fmt: skip
    assert found.rates[3].threshold is None


def test_the_hardest_pairs_are_named() -> None:
    found = evaluate(people(20, 5, 3), samples=20)
    images = people(20, 5, 3)
    scores, same = brute_force(images)
    assert [pair.score for pair in found.hardest_same] == pytest.approx(
        np.sort(scores[same])[:10], abs=1e-6
    )
    assert [pair.score for pair in found.hardest_different] == pytest.approx(
        np.sort(scores[~same])[:-11:-1], abs=1e-6
    )
    first = found.hardest_different[0]
    one, other = (images.keys.index(key) for key in (first.first, first.second))
    assert images.classes[one] != images.classes[other]


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_accuracy_is_that_of_the_protocol(seed: int, folds: int) -> None:
    random = np.random.default_rng(seed)
    same = random.random(60) < 0.5
    scores = np.asarray(np.round(random.random(60) + same / 2, 1), np.float64)
    scores[:2] = NO_SCORE
    fold = np.arange(60) % folds
    means = []
    for number in range(folds):
        train = fold != number
        best = max(
            (((scores[train] >= t) == same[train]).sum(), -t) for t in scores[train].tolist()
        )
        test = ~train
        right = ((scores[test] >= -best[1]) == same[test]) & (scores[test] != NO_SCORE)
        means.append(right.mean())
    found = accuracy_of(scores, same, fold)
    assert found.mean == pytest.approx(np.mean(means), abs=1e-12)
    assert found.deviation == pytest.approx(np.std(means, ddof=1), abs=1e-12)


def test_drawn_folds_have_classes_of_their_own() -> None:
    classes = people(45, 3, 4).classes
    drawn = fold_pairs(classes, seed=1, per_fold=20)
    assert drawn is not None
    rows, same, folds = drawn
    assert np.array_equal(same, classes[rows[:, 0]] == classes[rows[:, 1]])
    assert len(np.unique(np.sort(rows, axis=1), axis=0)) == len(rows)
    assert len(np.unique(folds)) == 10 and same.sum() == (~same).sum()
    for number in range(10):
        here, there = (
            set(classes[rows[where]].ravel()) for where in (folds == number, folds != number)
        )
        assert not here & there
    assert fold_pairs(np.array([0, 0, 1, 2]), seed=1) is None


def test_retrieval_equals_plain_search() -> None:
    images = people(12, 4, 5, noise=1.0, failed=5)
    found = nearest_of(images, 3)
    assert found is not None
    scores = images.vectors @ images.vectors.T
    np.fill_diagonal(scores, -9)
    for place, row in enumerate(found.images):
        hits = np.zeros(3)
        if row < images.embedded:
            hits = images.classes[np.argsort(-scores[row])[:3]] == images.classes[row]
        assert found.right[place] == hits[0]
        assert found.precision[place] == pytest.approx(hits.mean())


def test_intervals_hold_what_the_whole_population_shows() -> None:
    """Of samples of 100 people, 95 % should; benchmarks/intervals.py draws more, and other ones."""
    whole = compare_all(people(3000, 2, 99, 0.8)).exact
    figures: dict[str, Callable[[Roc], float]] = {
        "auc": Roc.auc,
        "eer": Roc.eer,
        "tar": partial(Roc.tar_at, far=0.01),
    }
    held = []
    for seed in range(20):
        found = curve_intervals(compare_all(people(100, 2, seed, 0.8)), figures, samples=60)
        held += [low <= figures[name](whole) <= high for name, (low, high) in found.items()]
    assert np.mean(held) >= 0.88


def test_listed_pairs_count_their_failures() -> None:
    images = people(20, 4, 6, noise=0.01, failed=4)
    rows = np.array([(one, other) for one in range(80) for other in range(one)])
    same = images.classes[rows[:, 0]] == images.classes[rows[:, 1]]
    listed, every = compare_listed(images, rows, same), compare_all(images)
    assert listed.exact.auc() == pytest.approx(every.exact.auc(), abs=1e-9)
    found = evaluate_pairs(images, rows, same, np.arange(len(rows)) % 10, samples=20)
    lost = (rows >= 76).any(axis=1).mean()
    assert found.accuracy is not None and found.rank1 is None
    assert found.accuracy.value == pytest.approx(1 - lost, abs=1e-3)


def test_what_cannot_be_evaluated_is_refused() -> None:
    images = people(4, 2, 7)
    with pytest.raises(UsageError, match="fewer than two classes"):
        evaluate(Images(images.keys, images.vectors, np.zeros(8, np.intp), ("a",)))
    with pytest.raises(UsageError, match="no class has two images"):
        evaluate(Images(images.keys, images.vectors, np.arange(8), tuple("abcdefgh")))
    with pytest.raises(UsageError, match="`k` is 0; give 1 or more"):
        evaluate(images, k=0)
    with pytest.raises(UsageError, match="all 1 pairs are of one person"):
        evaluate_pairs(images, np.array([[0, 1]]), np.array([True]), None)
