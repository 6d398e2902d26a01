"""Losses and miners against plain NumPy, pair by pair and triplet by triplet."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from featureid.training import losses

_MARGIN, _TEMPERATURE = 0.2, 0.05
Labels = npt.NDArray[np.intp]
Vectors = npt.NDArray[np.float32]


def _batch(seed: int, unit: bool) -> tuple[Labels, Vectors]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 18)
    vectors = rng.normal(size=(18, 6)) + labels[:, np.newaxis] * 0.3
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return labels, vectors.astype(np.float32)


def _distance(vectors: Vectors, one: int, other: int) -> float:
    return float(((vectors[one].astype(float) - vectors[other]) ** 2).sum())


def _pairs(labels: Labels) -> list[tuple[int, int]]:
    every = itertools.permutations(range(len(labels)), 2)
    return [(one, other) for one, other in every if labels[one] == labels[other]]


def _semi_hard(labels: Labels, vectors: Vectors) -> list[float]:
    found = []
    for anchor, positive in _pairs(labels):
        near = _distance(vectors, anchor, positive)
        rows = np.flatnonzero(labels != labels[anchor]).tolist()
        others = [_distance(vectors, anchor, row) for row in rows]
        farther = [distance for distance in others if distance > near]
        found.append(max(0.0, near - (min(farther) if farther else max(others)) + _MARGIN))
    return found


def _batch_hard(labels: Labels, vectors: Vectors) -> list[float]:
    found = []
    for anchor in range(len(labels)):
        near = [_distance(vectors, anchor, other) for one, other in _pairs(labels) if one == anchor]
        far = [
            _distance(vectors, anchor, row)
            for row in np.flatnonzero(labels != labels[anchor]).tolist()
        ]
        if near:
            found.append(max(0.0, max(near) - min(far) + _MARGIN))
    return found


def _contrastive(labels: Labels, vectors: Vectors) -> list[float]:
    found = []
    for one, other in _pairs(labels):
        logits = vectors.astype(float) @ vectors[one].astype(float) / _TEMPERATURE
        rest = np.delete(logits, one)
        found.append(float(np.logaddexp.reduce(rest) - logits[other]))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(
    ("terms", "brute_force"),
    [
        (losses.semi_hard_terms(_MARGIN), _semi_hard),
        (losses.batch_hard_terms(_MARGIN), _batch_hard),
        (losses.contrastive_terms(_TEMPERATURE), _contrastive),
    ],
)
def test_losses_equal_plain_numpy(
    seed: int,
    unit: bool,
    terms: losses.Terms,
    brute_force: Callable[[Labels, Vectors], list[float]],
) -> None:
    labels, vectors = _batch(seed, unit)
    wanted = brute_force(labels, vectors)

    loss = float(losses.mean_loss(terms)(labels, vectors))

    assert loss == pytest.approx(np.mean(wanted), rel=1e-6, abs=1e-6)
    if brute_force is not _contrastive:
        active = float(losses.active_share(terms)(labels, vectors))
        assert active == pytest.approx(np.mean(np.array(wanted) > 0), abs=1e-6)


def test_random_triplets_are_compared_as_they_are_given() -> None:
    _, vectors = _batch(1, unit=True)
    triplets = [(row, row + 6, row + 12) for row in range(6)]
    wanted = [
        max(0.0, _distance(vectors, a, p) - _distance(vectors, a, n) + _MARGIN)
        for a, p, n in triplets
    ]

    loss = float(losses.mean_loss(losses.random_terms(_MARGIN))(np.zeros(18), vectors))

    assert loss == pytest.approx(np.mean(wanted), rel=1e-6)


def test_a_batch_without_pairs_has_no_loss() -> None:
    vectors = np.eye(4, dtype=np.float32)

    for terms in (losses.semi_hard_terms(_MARGIN), losses.batch_hard_terms(_MARGIN)):
        assert float(losses.mean_loss(terms)(np.arange(4), vectors)) == 0
        assert float(losses.active_share(terms)(np.arange(4), vectors)) == 0


def test_spread_is_the_distance_from_the_mean() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)

    assert float(losses.spread(np.zeros(4), vectors)) == pytest.approx(1)
    assert float(losses.spread(np.zeros(4), np.ones((4, 2), np.float32))) == 0
