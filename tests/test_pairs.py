import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import pairs
from featureid.matching.groups import Graph, components, stars
from featureid.matching.pairs import (
    Pairs,
    all_pairs,
    identical_rows,
    pairs_between,
    pairs_in_cells,
    recall_of,
)
from featureid.matching.scores import pair_scores
from tests.matching_samples import Matrix, sample, unit


def brute_pairs(vectors: Matrix, threshold: float) -> list[tuple[int, int, float]]:
    return [
        (row, row + 1 + int(more), float(score))
        for row in range(len(vectors) - 1)
        for more, score in enumerate(pair_scores(vectors[row], vectors[row + 1 :]))
        if score >= np.float32(threshold)
    ]


def listed(found: Pairs) -> list[tuple[int, int, float]]:
    columns = found.lower.tolist(), found.higher.tolist(), found.scores.tolist()
    return [*zip(*columns, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    rows=st.integers(0, 200),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 0.75, 0.999999, 1.0]),
    at_once=st.sampled_from([1, 16, 512]),
    seed=st.integers(0, 2**32),
)
def test_all_pairs_equal_brute_force(
    kind: str, rows: int, threshold: float, at_once: int, seed: int
) -> None:
    vectors = sample(kind, max(rows, 1), 8, seed)[:rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "QUERIES_AT_ONCE", at_once)
        found = all_pairs(vectors, threshold)
    assert listed(found) == brute_pairs(vectors, threshold)


def test_pairs_between_two_matrices() -> None:
    one, other = sample("clustered", 60, 8, 1), sample("clustered", 90, 8, 1)
    here, there, scores = pairs_between(one, other, 0.9)
    wanted = np.array([pair_scores(row, other) for row in one])
    np.testing.assert_array_equal(np.nonzero(wanted >= np.float32(0.9)), (here, there))
    np.testing.assert_array_equal(wanted[here, there], scores)
    assert len(pairs_between(one[:0], other, 0.9)[0]) == 0


def test_identical_rows_are_those_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = sample("tied", 300, 4, 1)
    firsts: dict[bytes, int] = {}
    wanted = [firsts.setdefault(row.tobytes(), number) for number, row in enumerate(vectors)]
    assert identical_rows(vectors).tolist() == wanted
    assert len(identical_rows(vectors[:0])) == 0
    monkeypatch.setattr(pairs, "_hashes", lambda rows: np.zeros(len(rows), np.uint64))
    assert identical_rows(vectors).tolist() == wanted  # all hashes collide


def test_cells_find_nearly_all_pairs_and_recall_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(1)
    base = unit(random.standard_normal((3000, 32)))
    near = unit(base[:600] + 0.075 * random.standard_normal((600, 32)))
    vectors = np.concatenate([base, near])
    monkeypatch.setattr(pairs, "_ROWS_PER_CELL", 10)
    everything = all_pairs(vectors, 0.9)
    found = pairs_in_cells(vectors, 0.9, sets=1)
    assert set(listed(found)) <= set(listed(everything))
    assert 0.8 * len(everything) < len(found) < len(everything)
    got, of = recall_of(found, vectors, 0.9, len(vectors))
    assert (got, of) == (len(found), len(everything))
    some, of_some = recall_of(found, vectors, 0.9, 500)
    assert 0.8 < some / of_some <= 1 and of_some < of
    assert recall_of(everything, vectors, 0.9, 500) == (of_some, of_some)


def graph_of(edges: list[tuple[int, int]], rows: int) -> Graph:
    lower, higher = np.array(sorted(edges), np.intp).reshape(-1, 2).T
    return Graph.of(Pairs(lower, higher, np.full(len(lower), 0.95, np.float32)), rows)


def star_list(graph: Graph, rows: int) -> list[tuple[int, list[int]]]:
    found = stars(graph, np.ones(rows, np.intp), np.arange(rows))
    return [(center, members.tolist()) for center, members in found]


def test_stars_cut_chains() -> None:
    chain = graph_of([(row, row + 1) for row in range(9)], 10)
    assert star_list(chain, 10) == [(1, [0, 2]), (4, [3, 5]), (7, [6, 8])]
    assert [members.tolist() for members in components(chain)] == [[*range(10)]]


def test_the_row_with_most_images_around_becomes_a_center() -> None:
    graph = graph_of([(0, 1), (1, 2), (2, 3)], 5)
    weights = np.array([1, 1, 1, 9, 1])
    found = [(c, m.tolist()) for c, m in stars(graph, weights, np.array([0, 1, 2, 3, 4]))]
    assert found == [(2, [1, 3])]
    assert star_list(graph_of([], 3), 3) == []
    assert [*components(graph_of([], 3))] == []


@given(st.sets(st.tuples(st.integers(0, 19), st.integers(0, 19)).filter(lambda e: e[0] < e[1])))
def test_stars_are_disjoint_and_every_member_is_a_neighbor(edges: set[tuple[int, int]]) -> None:
    graph = graph_of([*edges], 20)
    seen: set[int] = set()
    for center, members in star_list(graph, 20):
        assert not seen & {center, *members}
        assert all(tuple(sorted((center, member))) in edges for member in members)
        seen |= {center, *members}
    # Who is in no group has no neighbor that is in none, either.
    assert not any(one not in seen and other not in seen for one, other in edges)
