"""Cells: which rows share one is exact, and their parts do not depend on how they are compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import cells as module
from featureid.matching.cells import (
    cut_parts,
    draw_pivots,
    nearest_pivots,
    parts_by_cells,
    recall_of,
    share_of_pivots,
)
from featureid.matching.forest import Forest
from featureid.matching.near import Nearness
from tests.matching_samples import Matrix, brute_force, sample, unit

ONE_EACH = np.ones(3000, np.intp)


def copies(rows: int, dimension: int, noise: float) -> Matrix:
    """Return rows of which a fifth are near to others."""
    random = np.random.default_rng(1)
    base = unit(random.standard_normal((rows * 4 // 5, dimension)))
    near = base[: rows // 5] + noise * random.standard_normal((rows // 5, dimension))
    return np.concatenate([base, unit(near)])


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    pivots=st.integers(0, 12),
    seed=st.integers(0, 2**32),
)
def test_the_nearest_pivots_are_those_of_the_definition(kind: str, pivots: int, seed: int) -> None:
    vectors = sample(kind, 40, 8, seed)
    chosen = vectors[:pivots]
    found = nearest_pivots(vectors, chosen)
    if pivots < 2:
        assert found.tolist() == [[0]] * 40
        return
    names = [f"{number:02}" for number in range(pivots)]
    wanted = [[row for _, row in best[:2]] for best in brute_force(vectors, chosen, names)]
    assert found.tolist() == wanted


def test_parts_depend_neither_on_the_order_of_rows_nor_on_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = copies(3000, 32, 0.075)
    monkeypatch.setattr(module, "_ROWS_PER_PIVOT", 10)
    monkeypatch.setattr(module, "SETS", 1)
    near = Nearness.of(vectors, 0.9)
    progress: list[int] = []
    parts = parts_by_cells(near, ONE_EACH, 1, progress.append)
    assert 2800 < sum(progress) <= 3000
    np.testing.assert_array_equal(parts_by_cells(near, ONE_EACH, 2), parts)
    order = np.random.default_rng(1).permutation(3000)
    shuffled = parts_by_cells(near.take(order), ONE_EACH, 2)
    pairs = Forest(3000)
    pairs.join(order, order[shuffled])
    np.testing.assert_array_equal(pairs.labels(), parts)
    everything = near.pairs(1 << 20)
    assert everything is not None
    found = int((parts[everything.one] == parts[everything.other]).sum())
    assert 0.8 * len(everything) < found < len(everything)
    monkeypatch.setattr(module, "_SAMPLE", 3000)
    recall = recall_of(near, parts, 3000)
    assert (recall.found, recall.pairs) == (found, len(everything))
    monkeypatch.setattr(module, "_SAMPLE", 500)
    some = recall_of(near, parts, 3000)
    assert 0.8 < some.found / some.pairs < 1 and 100 < some.pairs < recall.pairs


def test_a_large_part_is_cut_by_its_nearest_pivots(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sample("clustered", 400, 8, 1)
    near = Nearness.of(vectors, -1)
    assert not parts_by_cells(near, ONE_EACH[:400]).any()
    monkeypatch.setattr(module, "MAX_PART", 100)
    monkeypatch.setattr(module, "_ROWS_PER_PIVOT", 40)
    parts = parts_by_cells(near, ONE_EACH[:400])
    pivots = draw_pivots(vectors, 400)[0]
    nearest = nearest_pivots(vectors, pivots)[:, 0]
    assert len(np.unique(parts)) == len(np.unique(nearest)) > 1
    assert len(np.unique(cut_parts(parts, nearest))) == len(np.unique(nearest))


def test_there_are_about_as_many_pivots_as_cost_least() -> None:
    assert share_of_pivots(10**6) * 10**6 == pytest.approx(1000)
    assert share_of_pivots(2 * 10**8) * 2 * 10**8 == pytest.approx(20_000)
    assert share_of_pivots(0) <= 1
    vectors = sample("random", 20_000, 8, 1)
    first, second, *_ = draw_pivots(vectors, 2_000_000)
    assert 5 < len(first) < 40 and not np.array_equal(first, second)
    np.testing.assert_array_equal(draw_pivots(vectors[::-1], 2_000_000)[0], first)
