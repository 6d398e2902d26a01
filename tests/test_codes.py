"""Sign codes: the pairs they find, the recall they measure."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import codes as codes_module
from featureid.matching.codes import SignCodes, radius_of
from featureid.matching.scores import pair_scores
from tests.matching_samples import Matrix, near_pairs, sample

DIMENSION = 64


def distances(codes: SignCodes, one: Matrix, other: Matrix) -> np.ndarray:
    """Return in how many bits each row of one matrix differs from each of the other."""
    here, there = one > codes.center, other > codes.center
    found: np.ndarray = (here[:, np.newaxis] != there[np.newaxis]).sum(axis=2)
    return found


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 200),
    dimension=st.sampled_from([1, 7, 8, 64, 130]),
    threshold=st.floats(-1, 1),
    at_once=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 2**32),
)
def test_pairs_are_those_that_differ_in_few_bits(
    rows: int, dimension: int, threshold: float, at_once: int, seed: int
) -> None:
    vectors, queries = (sample("clustered", n, dimension, seed) for n in (rows, 9))
    codes = SignCodes.of(lambda: [vectors[:40], vectors[40:]], dimension)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes_module, "_ROWS_AT_ONCE", 64)
        patch.setattr(codes_module, "_QUERIES_AT_ONCE", at_once)
        patch.setattr(codes_module, "_PAIRS_AT_ONCE", at_once)
        found = [
            pair
            for owners, numbers in codes.pairs(queries, threshold)
            for pair in zip(owners.tolist(), numbers.tolist(), strict=True)
        ]
    wanted = distances(codes, queries, vectors) <= radius_of(threshold, dimension)
    assert sorted(found) == [(int(a), int(b)) for a, b in np.argwhere(wanted)]


def test_nearly_all_independent_bits_are_within_the_radius() -> None:
    random = np.random.default_rng(1)
    for threshold in (0.95, 0.9, 0.8, 0.5):
        bits = random.random((20_000, 128)) < math.acos(threshold) / math.pi
        assert (bits.sum(axis=1) <= radius_of(threshold, 128)).mean() > 0.998
    assert [radius_of(threshold, 128) for threshold in (1, 0, -1)] == [0, 83, 128]


def test_recall_is_that_of_the_rows_own_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = near_pairs(500, DIMENSION, 1)
    codes = SignCodes.of(lambda: [vectors[:300], vectors[300:]], DIMENSION)
    scores = np.stack([pair_scores(vector, vectors) for vector in vectors])
    np.fill_diagonal(scores, -1)
    bits = distances(codes, vectors, vectors)
    for threshold in (0.9, 0.8, 0.75, 0.6):
        recall = codes.recall(threshold)
        close = scores >= np.float32(threshold)
        assert recall is not None and recall.threshold == threshold
        assert recall.pairs == close.sum()
        assert recall.found == (bits[close] <= radius_of(threshold, DIMENSION)).sum()
    few = codes.recall(0.99)
    assert few is not None and few.pairs >= codes_module.ENOUGH_PAIRS
    assert few.threshold is not None and few.threshold < 0.99
    monkeypatch.setattr(codes_module, "ENOUGH_PAIRS", 10**6)
    assert codes.recall(0.9) is None


def test_of_very_many_pairs_a_part_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = near_pairs(300, DIMENSION, 1)
    all_counted = SignCodes.of(lambda: [vectors], DIMENSION).recall(0.6)
    monkeypatch.setattr(codes_module, "_COUNTED", 100)
    part = SignCodes.of(lambda: [vectors], DIMENSION).recall(0.6)
    assert all_counted is not None and part is not None
    assert part.pairs == pytest.approx(all_counted.pairs, rel=0.2)
