import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import MixedModelsError, UsageError
from featureid.matching import candidates, exact
from featureid.matching.scores import (
    check_comparable,
    check_queries,
    pair_scores,
    rounding_error,
    scores_of,
)
from featureid.storage.records import ModelInfo
from tests.matching_samples import Matrix, brute_force, sample, unit

KINDS = "random", "clustered", "tied"


def blocks_of(gallery: Matrix, size: int) -> exact.Blocks:
    return lambda: (gallery[start : start + size] for start in range(0, len(gallery), size))


@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 128, 129, 500])
def test_a_score_is_the_sum_in_a_fixed_order_and_symmetric(dimension: int) -> None:
    one, other = sample("random", 50, dimension, 1), sample("clustered", 50, dimension, 2)
    scores = pair_scores(one, other)
    exact_sums = (one.astype(np.longdouble) * other).sum(axis=1)
    assert np.abs(scores - exact_sums).max() <= 2.0**-24
    np.testing.assert_array_equal(pair_scores(other, one), scores)
    np.testing.assert_array_equal(pair_scores(one[7], other), pair_scores(one[[7] * 50], other))
    keys = [""] * 50
    assert (float(scores[3]), 3) in brute_force(one[3:4], other, keys)[0]


def test_scores_of_pairs_do_not_depend_on_their_number() -> None:
    one, other = sample("random", 300, 128, 1), sample("random", 400, 128, 2)
    here = np.random.default_rng(3).integers(300, size=40_000)
    there = np.random.default_rng(4).integers(400, size=40_000)
    scores = scores_of(one, here, other, there)
    np.testing.assert_array_equal(
        scores[17_000:], scores_of(one, here[17_000:], other, there[17_000:])
    )


@pytest.mark.parametrize("dimension", [2, 128, 4096])
def test_float32_products_stay_within_the_rounding_error(dimension: int) -> None:
    one, other = sample("clustered", 200, dimension, 5), sample("clustered", 300, dimension, 5)
    exact_products = one.astype(np.float64) @ other.T.astype(np.float64)
    assert np.abs(one @ other.T - exact_products).max() < rounding_error(dimension)
    assert rounding_error(128) < 2e-5


@settings(max_examples=60, deadline=None)
@given(
    at_once=st.sampled_from([1, 3, 1000]),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 300),
    dimension=st.sampled_from([2, 8, 128]),
    k=st.integers(1, 40),
    size=st.integers(1, 310),
    seed=st.integers(0, 2**32),
)
def test_search_equals_brute_force(
    at_once: int, kind: str, rows: int, dimension: int, k: int, size: int, seed: int
) -> None:
    gallery = sample(kind, rows, dimension, seed)
    queries = np.concatenate([gallery[:3], sample(kind, 4, dimension, seed + 1)])
    # Neither sorted nor in the order of the rows.
    keys = [f"{number * 7919 % 101:03}/{number}" for number in range(rows)]
    wanted = brute_force(queries, gallery, keys)
    blocks = blocks_of(gallery, size)

    def sort_keys(rows: list[int]) -> list[str]:
        return [keys[row] for row in rows]

    with pytest.MonkeyPatch.context() as patch:
        for module in (candidates, exact):
            patch.setattr(module, "QUERIES_AT_ONCE", at_once)
        patch.setattr(candidates, "ROWS_AT_ONCE", at_once * 7)
        top = exact.search_top(queries, blocks, k, sort_keys)
    for found, best in zip(top, wanted, strict=True):
        assert [*zip(found.scores.tolist(), found.rows.tolist(), strict=True)] == best[:k]
        assert found.total == rows

    thresholds = np.array([best[min(len(best) - 1, 5)][0] for best in wanted], np.float32)
    for limit in (None, k):
        above = exact.search_above(queries, blocks, thresholds, limit, sort_keys)
        for found, best, threshold in zip(above, wanted, thresholds, strict=True):
            enough = [match for match in best if match[0] >= threshold]
            assert [*zip(found.scores.tolist(), found.rows.tolist(), strict=True)] == enough[:limit]
            assert found.total == len(enough)


@settings(max_examples=30, deadline=None)
@given(
    installed=st.booleans(),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 300),
    k=st.integers(1, 40),
    size=st.integers(1, 310),
    seed=st.integers(0, 2**32),
)
def test_a_single_query_is_answered_alike_with_and_without_faiss(
    installed: bool, kind: str, rows: int, k: int, size: int, seed: int
) -> None:
    gallery, query = sample(kind, rows, 8, seed), sample(kind, 1, 8, seed + 1)
    keys = [f"{number * 7919 % 101:03}/{number}" for number in range(rows)]
    (wanted,) = brute_force(query, gallery, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_ROWS_FOR_FAISS", 2)
        if not installed:
            patch.setattr(candidates, "_faiss", lambda: None)
        (found,) = exact.search_top(
            query, blocks_of(gallery, size), k, lambda rows: [keys[row] for row in rows]
        )
    assert [*zip(found.scores.tolist(), found.rows.tolist(), strict=True)] == wanted[:k]


def test_thousands_of_copies_are_told_apart_by_their_keys() -> None:
    gallery = np.concatenate(
        [sample("random", 2000, 128, 1), np.repeat(sample("random", 1, 128, 2), 3000, 0)]
    )
    keys = [f"{-number % 5000:04}" for number in range(5000)]
    query = gallery[-1:]
    (found,) = exact.search_top(
        query, blocks_of(gallery, 700), 5, lambda rows: [keys[row] for row in rows]
    )
    assert [keys[row] for row in found.rows] == ["0001", "0002", "0003", "0004", "0005"]
    (above,) = exact.search_above(
        query,
        blocks_of(gallery, 700),
        np.array([0.99], np.float32),
        5,
        lambda rows: [keys[row] for row in rows],
    )
    assert above.total == 3000
    np.testing.assert_array_equal(above.rows, found.rows)


def test_hits_beyond_what_is_held_are_cut_to_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, queries = sample("tied", 500, 8, 1), sample("tied", 5, 8, 2)
    lowest = np.full(5, -1, np.float32)
    arguments = queries, blocks_of(gallery, 20), lowest, 7, lambda rows: rows
    wanted = exact.search_above(*arguments)
    monkeypatch.setattr(exact, "_MAX_HELD", 10)
    for found, want in zip(exact.search_above(*arguments), wanted, strict=True):
        np.testing.assert_array_equal(found.rows, want.rows)
        assert found.total == want.total == 500


def test_an_empty_gallery_has_no_matches() -> None:
    queries = sample("random", 2, 4, 1)
    for found in exact.search_top(queries, lambda: [], 3, lambda rows: rows):
        assert (len(found.rows), found.total) == (0, 0)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.ones((2, 5), np.float32), r"floats of shape \(n, 4\), got float32 of shape \(2, 5\)"),
        (np.ones((1, 4), np.int64), "got int64"),
        (np.ones((1, 4), np.float32), "query 0 has length 2, not 1"),
        (unit(np.ones((3, 4))) * [[1], [np.nan], [1]], "query 1 has length nan"),
        (np.ones((1, 1, 4), np.float32), r"of shape \(1, 1, 4\)"),
    ],
)
def test_wrong_queries_are_refused(queries: Matrix, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_queries(queries, 4)


def test_models_are_not_mixed() -> None:
    one, other = ModelInfo("image", "a", "p", 4), ModelInfo("mine", "b", "p", 4)
    with pytest.raises(MixedModelsError, match="model digest differs, image a and mine b"):
        check_comparable(one, "gallery", other, "queries")
    check_comparable(one, "gallery", one, "queries")
