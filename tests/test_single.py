"""Single queries: by eight-bit rows, with the answers of the definition."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import eight_bits as eight_bits_module
from featureid.matching import exact, single
from featureid.matching.eight_bits import EightBits
from featureid.matching.scores import pair_scores
from featureid.matching.single import HeldRows, SingleQueries
from tests.matching_samples import Matrix, brute_force, near_pairs, on_surface, sample

Rows = np.ndarray


def held(gallery: Matrix, size: int, keys: Sequence[str] | None = None) -> HeldRows:
    """Return rows in blocks of a size."""
    blocks = [gallery[start : start + size] for start in range(0, len(gallery), size)]
    names = keys or [""] * len(gallery)
    return HeldRows(
        lambda: blocks,
        len(gallery),
        lambda numbers: gallery[numbers],
        lambda rows: [names[row] for row in rows],
    )


def always_used(rows: HeldRows, dimension: int) -> EightBits:
    return EightBits.of(rows.blocks, dimension)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use eight-bit rows from the second query on, whatever is measured."""
    monkeypatch.setattr(single, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(single, "_if_faster", always_used)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    rows=st.integers(1, 150),
    dimension=st.sampled_from([1, 8, 16, 131]),
    k=st.integers(1, 40),
    size=st.integers(1, 160),
    more=st.sampled_from([0, 3, 100]),
    seed=st.integers(0, 2**32),
)
def test_single_queries_equal_brute_force(
    kind: str, rows: int, dimension: int, k: int, size: int, more: int, seed: int
) -> None:
    gallery = sample(kind, rows, dimension, seed)
    queries = np.concatenate([gallery[:2], sample(kind, 2, dimension, seed + 1)])
    keys = [f"{number * 7919 % 101:03}/{number}" for number in range(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "_FEWEST_ROWS", 1)
        patch.setattr(single, "_MORE", more)
        patch.setattr(single, "_if_faster", always_used)
        search, searched = SingleQueries(), held(gallery, size, keys)
        for query, best in enumerate(brute_force(queries, gallery, keys)):
            found = search.search(queries[query : query + 1], k, searched)
            assert [*zip(found.scores.tolist(), found.rows.tolist(), strict=True)] == best[:k]
            assert found.total == rows
        assert search.uses_eight_bits


@pytest.mark.parametrize("dimension", [1, 3, 128, 1000])
@pytest.mark.parametrize("kind", ["random", "clustered", "tied", "surface", "axes"])
def test_no_other_row_scores_more_than_the_bound(kind: str, dimension: int) -> None:
    if kind == "surface":
        gallery = on_surface(500, dimension, 1)
    elif kind == "axes":  # which make the step as large as it can be
        axes = np.eye(3, dimension, dtype=np.float32)[:dimension]
        gallery = np.concatenate([axes, sample("random", 500, dimension, 1)])
    else:
        gallery = sample(kind, 500, dimension, 1)
    queries = np.concatenate([gallery[:5], sample("random", 5, dimension, 2)])
    eight_bits = EightBits.of(lambda: [gallery], dimension)
    for query in queries:
        scores = pair_scores(query, gallery)
        for count in (1, 20, 300):
            rows, highest = eight_bits.nearest(query[np.newaxis], count)
            others = np.delete(scores, rows)
            assert len({*rows.tolist()}) == count and others.max() <= highest
            # The rows that are left out are not many.
            assert highest < np.sort(scores)[-count] + 0.06 * max(1, dimension / 128) ** 0.5
        assert eight_bits.nearest(query[np.newaxis], len(gallery))[1] == -np.inf


def test_eight_bit_rows_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = on_surface(300, 16, 1)
    one = EightBits.of(lambda: [gallery], 16)
    monkeypatch.setattr(eight_bits_module, "_ROWS_AT_ONCE", 7)
    other = EightBits.of(lambda: [gallery[:1], gallery[1:1], gallery[1:]], 16)
    assert (one.step, one.change) == (other.step, other.change)
    query = gallery[:1]
    for here, there in zip(one.nearest(query, 9), other.nearest(query, 9), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.usefixtures("always")
def test_most_answers_are_proven_by_eight_bit_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for gallery in (on_surface(5000, 128, 1), sample("random", 5000, 128, 1)):
        search, searched = SingleQueries(), held(gallery, 2000)
        for _ in range(2):
            search.search(gallery[:1], 10, searched)
        with monkeypatch.context() as patch:
            patch.setattr(single, "search_top", lambda *_: pytest.fail("searched exactly"))
            assert search.search(gallery[7:8], 10, searched).rows[0] == 7


@pytest.mark.usefixtures("always")
def test_thousands_of_copies_are_searched_exactly() -> None:
    gallery = np.concatenate(
        [np.repeat(sample("random", 1, 16, 1), 3000, 0), near_pairs(50, 16, 2)]
    )
    keys = [f"{-number % 3100:04}" for number in range(len(gallery))]
    search, searched = SingleQueries(), held(gallery, 700, keys)
    for _ in range(3):
        found = search.search(gallery[:1], 3, searched)
        assert [keys[row] for row in found.rows] == ["0000", "0101", "0102"]


@pytest.mark.parametrize("faster", [False, True])
def test_eight_bit_rows_are_used_if_they_are_measured_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, faster: bool
) -> None:
    """The clock runs faster for one of both ways."""
    now = 0.0

    def by_rows(*arguments: object) -> list[exact.Found]:
        nonlocal now
        now += 2
        return exact.search_top(*arguments)  # type: ignore[arg-type]

    def by_eight_bits(self: EightBits, query: Matrix, count: int) -> tuple[Rows, float]:
        nonlocal now
        now += 1 if faster else 3
        return nearest(self, query, count)

    nearest = EightBits.nearest
    monkeypatch.setattr(single, "_FEWEST_ROWS", 100)
    monkeypatch.setattr(single, "search_top", by_rows)
    monkeypatch.setattr(EightBits, "nearest", by_eight_bits)
    monkeypatch.setattr(single, "perf_counter", lambda: now)
    gallery = sample("random", 200, 16, 1)
    search, searched = SingleQueries(), held(gallery, 60)
    for query in range(5):
        assert search.uses_eight_bits == (faster and query > 1)
        assert search.search(gallery[query : query + 1], 3, searched).rows[0] == query
    few = SingleQueries()
    for query in range(3):
        few.search(gallery[query : query + 1], 3, held(gallery[:99], 60))
        assert not few.uses_eight_bits


@pytest.mark.usefixtures("always")
def test_threads_share_the_eight_bit_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, made = sample("random", 300, 16, 1), []
    of = EightBits.of

    def counted(blocks: exact.Blocks, dimension: int) -> EightBits:
        made.append(dimension)
        return of(blocks, dimension)

    monkeypatch.setattr(EightBits, "of", counted)
    search, searched, found = SingleQueries(), held(gallery, 100), {}

    def run(query: int) -> None:
        found[query] = int(search.search(gallery[query : query + 1], 2, searched).rows[0])

    threads = [threading.Thread(target=run, args=(query,)) for query in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [16] and found == {query: query for query in range(12)}
