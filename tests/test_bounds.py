"""Bounding vectors: shorter, and never too low."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import bounds, near
from featureid.matching.bounds import ROUNDING, bounding_vectors
from featureid.matching.near import Nearness, near_pairs
from featureid.matching.scores import rounding_error
from tests.matching_samples import Matrix, sample, unit
from tests.naive_duplicates import near_matrix


def flat(rows: int, dimension: int, seed: int) -> Matrix:
    """Return rows that hold most of what they say in four directions."""
    random = np.random.default_rng(seed)
    numbers = random.standard_normal((rows, dimension))
    numbers[:, 4:] *= 0.1
    turn, _ = np.linalg.qr(random.standard_normal((dimension, dimension)))
    return unit(numbers @ turn)


@settings(max_examples=9, deadline=None)
@given(
    threshold=st.sampled_from([0.7, 0.9, 0.99]),
    sparse=st.sampled_from([1, 50, 10**9]),
    seed=st.integers(0, 2**32),
)
def test_bounds_lose_no_pair(threshold: float, sparse: int, seed: int) -> None:
    vectors = flat(200, 64, seed)
    vectors[150:] = unit(vectors[:50] + 0.05 * sample("random", 50, 64, seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "_LEAST_ROWS", 1)
        patch.setattr(bounds, "_SAMPLE", 100)
        patch.setattr(bounds, "_LOOK", 1.0)
        patch.setattr(near, "_SPARSE", sparse)
        short = bounding_vectors(vectors, threshold)
        assert short.shape[1] in (9, 17, 25)
        highest = short.astype(np.float64) @ short.T
        exact = vectors.astype(np.float64) @ vectors.T
        assert (highest >= exact - ROUNDING).all()
        found = np.zeros((200, 200), np.bool_)
        for here, there in near_pairs(vectors, vectors, threshold, (short, short)):
            found[here, there] = True
    np.testing.assert_array_equal(found, near_matrix(Nearness.of(vectors, threshold)))


def test_noise_and_few_rows_keep_their_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bounding_vectors(vectors := flat(300, 32, 1), 0.9) is vectors
    monkeypatch.setattr(bounds, "_LEAST_ROWS", 1)
    monkeypatch.setattr(bounds, "_SAMPLE", 300)
    noise = sample("random", 300, 12, 1)
    assert bounding_vectors(noise, 0.1) is noise
    assert rounding_error(128) > ROUNDING
