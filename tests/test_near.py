"""Which rows are near each other: exactly, with sides, parts, alike rows, and listed pairs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import near as module
from featureid.matching.forest import Forest
from featureid.matching.near import Mask, Nearness, Pairs, Which, near_pairs
from tests.matching_samples import Matrix, sample
from tests.naive_duplicates import near_matrix

KINDS = st.sampled_from(["random", "clustered", "tied"])
THRESHOLDS = st.sampled_from([-0.5, 0.0, 0.5, 0.75, 0.999999, 1.0])


def some_pairs(random: np.random.Generator, rows: int) -> Pairs:
    one, other = random.integers(rows, size=(2, rows // 4))
    return Pairs(one, other).where(one != other)


def some_nearness(vectors: Matrix, threshold: float, seed: int) -> Nearness:
    """Return one with corrections or not, sides, parts, alike rows, and listed pairs at random."""
    random = np.random.default_rng(seed)
    count = len(vectors)
    left, right = random.random((2, count)) < random.choice([0.7, 1])
    parts = random.integers(random.choice([1, 3]), size=count)
    added, removed = some_pairs(random, count), some_pairs(random, count)
    if random.random() < 0.3:
        removed = Pairs.none()
    corrections = random.uniform(-0.5, 0.5, count).astype(np.float32) if seed % 2 else None
    return replace(
        Nearness.of(vectors, threshold, corrections),
        left=left,
        right=right,
        parts=parts,
        added=added,
        removed=removed,
        alike=random.choice([-1, -1, 5, 7], count),
    )


def as_set(pairs: Pairs) -> list[tuple[int, int]]:
    one, other = pairs.one.tolist(), pairs.other.tolist()
    return sorted((min(pair), max(pair)) for pair in zip(one, other, strict=True))


def test_near_pairs_are_those_that_score_enough() -> None:
    for kind in ("random", "clustered", "tied"):
        vectors = sample(kind, 300, 8, 1)
        found = np.zeros((300, 300), np.bool_)
        for here, there in near_pairs(vectors, vectors, 0.5):
            assert not found[here, there].any()
            found[here, there] = True
        np.testing.assert_array_equal(found, near_matrix(Nearness.of(vectors, 0.5)))


@settings(max_examples=25, deadline=None)
@given(
    kind=KINDS,
    rows=st.integers(1, 60),
    threshold=THRESHOLDS,
    at_once=st.sampled_from([7, 512]),
    max_held=st.sampled_from([0, 1 << 18]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32),
)
def test_every_way_to_ask_gives_the_same_answer(
    kind: str, rows: int, threshold: float, at_once: int, max_held: int, threads: int, seed: int
) -> None:
    near = some_nearness(sample(kind, rows, 8, seed), threshold, seed)
    wanted = near_matrix(near)
    pairs = [*zip(*map(np.ndarray.tolist, np.nonzero(np.triu(wanted, 1))), strict=True)]
    every = np.arange(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUERIES_AT_ONCE", at_once)
        patch.setattr(module, "ROWS_AT_ONCE", at_once)
        patch.setattr(module, "_MAX_HELD", max_held)
        np.testing.assert_array_equal(near.matrix(every, slice(None)), wanted)
        weights = np.random.default_rng(seed).integers(1, 9, rows)
        np.testing.assert_array_equal(near.sums(weights), wanted @ weights)
        some = every[::2]
        np.testing.assert_array_equal(
            near.sums(weights[some], some), wanted[:, some] @ weights[some]
        )
        found = near.pairs(rows * rows)
        assert found is not None and as_set(found) == pairs
        edges = [*near.edges(threads)]
        np.testing.assert_array_equal(
            near.take(some).matrix(some // 2, some // 2), wanted[np.ix_(some, some)]
        )
    assert {pair for part in edges for pair in as_set(part)} <= {*pairs} or max_held == 0
    forest, all_pairs = Forest(rows), Forest(rows)
    for part in edges:
        forest.join(part.one, part.other)
    all_pairs.join(found.one, found.other)
    np.testing.assert_array_equal(forest.labels(), all_pairs.labels())


def test_too_many_pairs_are_not_returned() -> None:
    near = Nearness.of(sample("clustered", 40, 8, 1), 0.9)
    assert (found := near.pairs(10_000)) is not None
    assert near.pairs(len(found) - 1) is None and near.pairs(len(found)) is not None


def test_rows_that_are_alike_need_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sample("random", 3000, 8, 1)
    alike = np.where(np.arange(3000) < 2990, 4, -1)
    near = replace(Nearness.of(vectors, 0.99), alike=alike)
    assert len(near.linked()) == 2989 and near.pairs(2990 * 2989 // 2 - 1) is None
    weights = np.random.default_rng(1).integers(1, 9, 3000)
    sizes = []
    matrix = Nearness.matrix

    def counted(self: Nearness, one: Which, other: Which) -> Mask:
        found = matrix(self, one, other)
        sizes.append(found.size)
        return found

    wanted = near_matrix(near) @ weights
    monkeypatch.setattr(Nearness, "matrix", counted)
    np.testing.assert_array_equal(near.sums(weights), wanted)
    assert sum(sizes) <= 2 * 10 * 3000
