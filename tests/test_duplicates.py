"""Groups of near-duplicates: which rows are grouped, which one is kept."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import UsageError
from featureid.matching.collection import Collection, joined_collections, mark_known
from featureid.matching.duplicates import DuplicateOptions, find_duplicates
from featureid.matching.scores import pair_scores
from tests.matching_samples import Matrix, sample, unit


def collection(vectors: Matrix, origin: int = 0, first: int = 0) -> Collection:
    count = len(vectors)
    return Collection(
        keys=[f"{first + number:03}.jpg" for number in range(count)],
        faces=[None] * count,
        vectors=vectors,
        digests=np.array([[(first + number) % 256] * 32 for number in range(count)], np.uint8),
        pixels=np.full(count, 100),
        sizes=np.full(count, 100),
        modified=np.zeros(count, np.int64),
        origin=np.full(count, origin, np.int8),
    )


def fan(*degrees: float) -> Matrix:
    """Return vectors in a plane at these angles."""
    angles = np.radians(degrees)
    return unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))


def groups(rows: Collection, options: DuplicateOptions) -> list[tuple[int, int, list[int]]]:
    found = find_duplicates(rows, options)
    return [(g.keep, g.center, sorted(m.row for m in g.members)) for g in found.groups]


NEAR = DuplicateOptions(0.95)  # 18 degrees


def test_a_chain_is_cut_and_single_link_follows_it() -> None:
    rows = collection(fan(0, 15, 30, 45, 60))
    assert groups(rows, NEAR) == [(1, 1, [0, 1, 2]), (3, 3, [3, 4])]
    assert groups(rows, replace(NEAR, link="single")) == [(0, 1, [0, 1, 2, 3, 4])]


def test_the_one_that_is_kept_is_near_all_members() -> None:
    rows = collection(fan(0, 15, 30))
    # The largest image, 0, is not near 2; 1 is near both.
    largest = replace(rows, pixels=np.array([900, 100, 100]))
    assert groups(largest, NEAR) == [(1, 1, [0, 1, 2])]
    rows = collection(fan(0, 5, 10))
    for keep, changes, kept in (
        ("largest", {"pixels": np.array([1, 1, 9])}, 2),
        ("largest", {"sizes": np.array([1, 9, 1])}, 1),
        ("oldest", {"modified": np.array([0, 9, 5])}, 2),
        ("key", {"keys": ["c", "b", "a"]}, 2),
        ("first", {"origin": np.array([0, 1, 0], np.int8)}, 1),
    ):
        options = replace(NEAR, keep=keep)  # type: ignore[arg-type]
        assert groups(replace(rows, **changes), options)[0][0] == kept, keep


def test_identical_vectors_and_identical_bytes_are_told_apart() -> None:
    vectors = fan(0, 90, 0, 0, 180)
    rows = collection(vectors)
    assert rows.digests is not None
    rows.digests[3] = rows.digests[0]
    (group,) = find_duplicates(rows, NEAR).groups
    assert [(m.row, m.identical) for m in group.members] == [(0, True), (2, False), (3, True)]
    unknown = find_duplicates(replace(rows, digests=None), NEAR).groups
    assert not any(member.identical for member in unknown[0].members)


def test_only_pairs_with_a_row_of_the_collection_count() -> None:
    mine, theirs = collection(fan(0, 90)), collection(fan(5, 10, 200, 205), origin=1, first=10)
    rows = joined_collections(mine, theirs)
    # 200 and 205 are near each other, but both are known.
    assert groups(rows, replace(NEAR, keep="first")) == [(2, 0, [0, 2, 3])]
    mine = collection(fan(0, 2))
    assert groups(mine, replace(NEAR, across=True)) == []
    rows = joined_collections(mine, collection(fan(3), origin=1, first=2))
    assert groups(rows, replace(NEAR, across=True)) == [(2, 2, [0, 1, 2])]
    before = collection(fan(0, 90))
    now = joined_collections(collection(fan(0, 91)), collection(fan(3), first=2))
    assert mark_known(now, before).origin.tolist() == [1, 0, 0]


def test_ignored_pairs_are_not_grouped_because_of_each_other() -> None:
    rows = collection(fan(0, 5))
    ignored = frozenset({("001.jpg", "000.jpg"), ("x", "y")})
    assert groups(rows, NEAR) == [(0, 0, [0, 1])]
    assert groups(rows, replace(NEAR, ignored=ignored)) == []
    rows = collection(fan(0, 5, 10))
    assert groups(rows, replace(NEAR, ignored=ignored)) == [(2, 2, [0, 1, 2])]


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["clustered", "tied"]),
    rows=st.integers(1, 120),
    link=st.sampled_from(["star", "single"]),
    threshold=st.sampled_from([0.5, 0.75, 0.99]),
    seed=st.integers(0, 2**32),
)
def test_groups_are_disjoint_complete_and_close(
    kind: str, rows: int, link: str, threshold: float, seed: int
) -> None:
    vectors = sample(kind, rows, 8, seed)
    options = DuplicateOptions(threshold, link=link)  # type: ignore[arg-type]
    found = find_duplicates(collection(vectors), options)
    assert found.recall is None
    grouped: set[int] = set()
    for group in found.groups:
        members = [member.row for member in group.members]
        assert len(members) > 1 and not grouped & {*members}
        assert members[0] == group.keep and group.center in members
        grouped |= {*members}
        scores = pair_scores(vectors[group.center], vectors[members])
        assert scores.tolist() == [member.score for member in group.members]
        if link == "star":
            to_kept = pair_scores(vectors[group.keep], vectors[members[1:]])
            assert min(*scores, *to_kept) >= np.float32(threshold)
    for row in set(range(rows)) - grouped:
        scores = pair_scores(vectors[row], vectors)
        near = {*np.flatnonzero(scores >= np.float32(threshold)).tolist()} - {row}
        assert near <= grouped if link == "star" else not near


def test_cells_say_how_much_they_have_found() -> None:
    random = np.random.default_rng(1)
    base = unit(random.standard_normal((3000, 16)))
    vectors = np.concatenate([base, unit(base[:500] + 0.05 * random.standard_normal((500, 16)))])
    found = find_duplicates(collection(vectors), DuplicateOptions(0.9, method="cells"))
    assert found.recall is not None
    assert 0.9 * found.recall.pairs <= found.recall.found <= found.recall.pairs
    assert 480 <= len(found.groups) <= 510


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": -1.5}, "`threshold` is -1.5; a score is from -1 to 1"),
        ({"threshold": 1.5}, "`threshold` is 1.5"),
        (
            {"threshold": 0.9, "keep": "best"},
            "`keep` is 'best'; known: largest, oldest, first, key",
        ),
        ({"threshold": 0.9, "link": "x"}, "`link` is 'x'; known: star, single"),
        ({"threshold": 0.9, "method": "x"}, "`method` is 'x'; known: auto, exact, cells"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DuplicateOptions(**arguments)  # type: ignore[arg-type]
