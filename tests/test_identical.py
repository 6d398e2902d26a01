"""Hashes of rows: identical rows, and samples that no order of rows changes."""

import numpy as np
import pytest

from featureid.matching import identical
from featureid.matching.identical import identical_rows, row_hashes, sampled_rows
from tests.matching_samples import Matrix, sample


def test_identical_rows_are_those_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sample("tied", 300, 4, 1)
    firsts: dict[bytes, int] = {}
    wanted = [firsts.setdefault(row.tobytes(), number) for number, row in enumerate(vectors)]
    assert identical_rows(vectors).tolist() == wanted
    assert len(identical_rows(vectors[:0])) == 0

    def collide(rows: Matrix) -> np.ndarray:
        return np.zeros(len(rows), np.uint64)

    monkeypatch.setattr(identical, "row_hashes", collide)
    assert identical_rows(vectors).tolist() == wanted


def test_a_sample_depends_on_the_bytes_of_each_row_alone() -> None:
    vectors = sample("random", 20_000, 16, 1)
    hashes = row_hashes(vectors)
    drawn = sampled_rows(hashes, 0.05, 1)
    assert 900 < len(drawn) < 1100
    assert len(np.intersect1d(drawn, sampled_rows(hashes, 0.05, 2))) < 100
    order = np.random.default_rng(1).permutation(len(vectors))
    shuffled = sampled_rows(row_hashes(vectors[order]), 0.05, 1)
    np.testing.assert_array_equal(np.sort(order[shuffled]), drawn)
    assert len(sampled_rows(hashes, 2.0, 1)) == len(vectors)
    assert len(np.unique(hashes)) == len(vectors)
