"""Inverted lists: what they find, the recall they measure, where they are of no use."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import UsageError
from featureid.matching import inverted_lists as lists_module
from featureid.matching.inverted_lists import InvertedLists, Probing
from featureid.matching.scores import pair_scores
from tests.matching_samples import Matrix, on_surface, sample

DIMENSION = 16


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_module, "FEWEST_ROWS", 1000)
    monkeypatch.setattr(lists_module, "_ROWS_PER_LIST", 30)


def lists_of(vectors: Matrix, recall: float) -> InvertedLists:
    blocks = [vectors[:700], vectors[700:]]
    return InvertedLists.of(lambda: blocks, vectors.shape[1], len(vectors), recall)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    probed=st.integers(1, 12),
    count=st.integers(1, 60),
    at_once=st.sampled_from([1, 4, 1000]),
    seed=st.integers(0, 2**32),
)
def test_the_nearest_rows_of_the_nearest_lists_are_found(
    kind: str, probed: int, count: int, at_once: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors, queries = sample(kind, 200, 8, seed), sample(kind, 9, 8, seed + 1)
    centers = sample("random", 12, 8, seed + 2)
    owner = random.integers(0, 11, 200)  # the last list is empty
    lists = InvertedLists(
        centers,
        np.bincount(owner, minlength=12),
        np.argsort(owner, kind="stable").astype(np.uint32),
        random.uniform(-1, 1, (4, 16, 2)).astype(np.float32),
        random.integers(256, size=(200, 2), dtype=np.uint8),
        # So many candidates that it does not matter what the codes say.
        (Probing(200, probed, 1.0, 1, 1),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists_module, "_QUERIES_AT_ONCE", at_once)
        scores, rows = lists.nearest(queries, vectors, 1, count)
    distances = ((queries[:, np.newaxis] - centers) ** 2).sum(axis=2)
    for query, nearest in enumerate(np.argsort(distances, axis=1)[:, :probed]):
        there = np.flatnonzero(np.isin(owner, nearest))
        wanted = np.sort(vectors[there] @ queries[query])[::-1][:count]
        found = scores[query][scores[query] > -np.inf]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        mine = rows[query, : len(found)]
        assert len({*mine.tolist()} & {*there.tolist()}) == len(found)
        np.testing.assert_allclose(vectors[mine] @ queries[query], found, atol=1e-6)


def test_nearly_each_row_is_in_the_list_of_its_nearest_center() -> None:
    vectors = on_surface(3000, DIMENSION, 1)
    lists = lists_of(vectors, 0.9)
    assert len(lists.centers) == len(lists.sizes) == 100
    np.testing.assert_array_equal(np.sort(lists.rows), np.arange(3000))
    distances = ((vectors[:, np.newaxis] - lists.centers) ** 2).sum(axis=2)
    owner = np.repeat(np.arange(100), lists.sizes)
    # Of a row between groups of centers, another one may be a little nearer.
    assert (distances[lists.rows, owner] == distances[lists.rows].min(axis=1)).mean() > 0.9
    assert lists.sizes.max() < 200


def test_recall_is_that_of_the_nearest_rows_of_rows() -> None:
    vectors = on_surface(3000, DIMENSION, 1)
    lists = lists_of(vectors, 0.9)
    scores = np.stack([pair_scores(vector, vectors) for vector in vectors])
    np.fill_diagonal(scores, -2)
    nearest = np.argsort(-scores, axis=1)
    for k in lists_module.NEIGHBORS:
        probing = lists.probing(k)
        assert probing is not None and probing.k == k
        _, rows = lists.nearest(vectors, vectors, k, k + 1)
        found = sum(
            len({*mine.tolist()} & {*best.tolist()})
            for mine, best in zip(rows, nearest[:, :k], strict=True)
        )
        assert probing.recall.share == pytest.approx(found / (3000 * k), abs=0.01)
        assert probing.recall.share >= 0.9
    assert [probing.lists for probing in lists.probings] == sorted(
        probing.lists for probing in lists.probings
    )
    assert lists.probing(11) == lists.probing(20) and lists.probing(101) is None


def test_white_noise_has_no_lists() -> None:
    lists = lists_of(sample("random", 3000, 64, 1), 0.9)
    assert len(lists.centers) == len(lists.rows) == 0
    probing = lists.probing(10)
    assert probing is not None and probing.recall.share < 0.8
    assert probing.share <= 0.25


def test_few_rows_have_no_lists() -> None:
    assert lists_of(on_surface(999, DIMENSION, 1), 0.9).probings == ()


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"featureid\[search\]"):
        lists_of(on_surface(1000, DIMENSION, 1), 0.9)


def test_copies_do_not_disturb() -> None:
    vectors = np.concatenate([on_surface(1500, 4, 1), np.repeat(on_surface(1, 4, 2), 1500, 0)])
    lists = lists_of(vectors, 0.9)
    for probing in lists.probings:
        assert probing.pairs == probing.k * 1000
