"""Matching tile by tile: what is found is what an exact search of everything finds."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featureid
from featureid.matching.gallery import Gallery
from featureid.matching.match_plan import Loaded, MatchPlan, Side
from featureid.matching.partial import PartialMatches, merge
from featureid.matching.parts import PartRows, RowRange, count_rows, cut, joined, num_rows, whole
from featureid.matching.tiles import TileSizes, make_tiling
from featureid.storage import layout
from featureid.storage.records import EmbeddingRow
from tests.match_samples import DIMENSION, embedded, matched_snapshots, write
from tests.matching_samples import sample
from tests.storage_samples import make_info

#: A match: score, row of the gallery, key, face.
Match = tuple[float, int, str, int | None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return matched_snapshots(tmp_path_factory.mktemp("match"))


def merged(plan: MatchPlan, shuffle: random.Random | None = None) -> dict[int, PartialMatches]:
    """Return the matches of the units of queries that have any, merged in a random order."""
    shuffle = shuffle or random.Random(0)
    snapshots, tiling = plan.open(), plan.tile()
    by_unit: dict[int, list[PartialMatches]] = defaultdict(list)
    kept: dict[str, Loaded] = {}
    tiles = [*tiling.tiles()]
    assert len(tiles) == tiling.num_tiles
    shuffle.shuffle(tiles)
    for tile in tiles:
        for unit, found in plan.match(
            snapshots, tiling, tile, lambda name, load: kept.setdefault(name, load())
        ):
            assert found.keys  # what has no matches is not sent
            by_unit[unit].append(found)
    for parts in by_unit.values():
        while len(parts) > 1:
            shuffle.shuffle(parts)
            parts.append(merge([parts.pop() for _ in range(min(3, len(parts)))], plan.k))
    return {unit: found for unit, (found,) in by_unit.items()}


def match(plan: MatchPlan, shuffle: random.Random) -> list[list[Match]]:
    """Return the matches of each query."""
    found, (query, _) = merged(plan, shuffle), plan.open()
    return [
        matches
        for unit, part in enumerate(plan.tile().units)
        for matches in (listed(found[unit]) if unit in found else [[]] * count_rows(query, part))
    ]


def listed(found: PartialMatches) -> list[list[Match]]:
    faces = [None] * len(found.keys) if found.faces is None else found.faces.tolist()
    hits = zip(found.scores.tolist(), found.rows.tolist(), found.keys, faces, strict=True)
    return [list(itertools.islice(hits, count)) for count in found.counts.tolist()]


def expected(plan: MatchPlan) -> list[list[Match]]:
    query, gallery = plan.open()
    found = Gallery(gallery).matches(query.vectors(), plan.k, plan.threshold)
    return [[(m.score, m.row, m.key, m.face) for m in matches.hits] for matches in found]


@settings(max_examples=60, deadline=None)
@given(
    names=st.sampled_from(
        [(q, g) for q in ("small", "large") for g in ("small", "large")]
        + [(f"{q} faces", f"{g} faces") for q, g in (("small", "large"), ("large", "small"))]
    ),
    k=st.sampled_from([1, 3, 7, 1000]),
    threshold=st.sampled_from([None, None, -1, 0.3, 0.75, 1]),
    unlimited=st.booleans(),
    sizes=st.builds(
        TileSizes,
        unit=st.sampled_from([1, 5, 16, 1000]),
        held=st.sampled_from([8, 20, 1000]),
        tile=st.sampled_from([8, 30, 1000]),
        tiles=st.sampled_from([1, 30]),
    ),
    seed=st.integers(0, 99),
)
def test_tiles_of_any_size_merged_in_any_order_give_what_a_gallery_gives(
    folders: dict[str, str],
    names: tuple[str, str],
    k: int,
    threshold: float | None,
    unlimited: bool,
    sizes: TileSizes,
    seed: int,
) -> None:
    query, gallery = (Side(folders[name]) for name in names)
    limit = None if unlimited and threshold is not None else k
    plan = MatchPlan(query, gallery, limit, threshold, sizes)
    assert match(plan, random.Random(seed)) == expected(plan)


def test_what_k_cuts_off_is_counted(folders: dict[str, str]) -> None:
    sizes = TileSizes(unit=8, held=8, tile=30)
    counted = []
    for k in (None, 2):
        plan = MatchPlan(Side(folders["small"]), Side(folders["large"]), k, 0.5, sizes)
        counted.append(plan.count(merged(plan).values()))
    everything, few = counted
    assert everything["cut_off"] == 0 < few["cut_off"]
    assert everything["matches"] == few["matches"] + few["cut_off"]
    assert everything["matched_queries"] == few["matched_queries"]


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    rows=st.integers(1, 50),
    chosen=st.booleans(),
)
def test_cutting_loses_nothing_and_keeps_the_order(
    sizes: list[int], rows: int, chosen: bool
) -> None:
    ranges = [
        RowRange(n, 0, size, np.arange(size, dtype=np.int32) if chosen else None)
        for n, size in enumerate(sizes)
        if size
    ]
    parts = cut(ranges, rows)
    assert all(num_rows(part) == rows for part in parts[:-1])
    assert all(0 < num_rows(part) <= rows for part in parts[-1:])
    if chosen:
        assert [(r.shard, row) for r in joined(parts) for row in r.rows.tolist()] == [  # type: ignore[union-attr]
            (n, row) for n, size in enumerate(sizes) for row in range(size)
        ]
    else:
        places = [(r.shard, row) for r in joined(parts) for row in range(r.start, r.stop)]
        assert places == [(n, row) for n, size in enumerate(sizes) for row in range(size)]


@pytest.mark.parametrize("name", ["large", "large faces"])
@pytest.mark.parametrize("rows", [1, 7, 50, 1000])
def test_parts_have_the_rows_of_the_snapshot(folders: dict[str, str], name: str, rows: int) -> None:
    snapshot = featureid.open_snapshot(folders[name])
    parts = cut(whole(snapshot.manifest), rows)
    read = [PartRows(snapshot, part) for part in parts]
    assert [part.num_rows for part in read] == [count_rows(snapshot, part) for part in parts]
    np.testing.assert_array_equal(
        np.concatenate([part.vectors() for part in read]), snapshot.vectors()
    )
    every = [np.arange(part.num_rows) for part in read]
    keys = [part.values(layout.KEY, rows[::-1]) for part, rows in zip(read, every, strict=True)]
    assert [key for some in keys for key in some[::-1]] == snapshot.row_keys()
    numbers = [part.numbers(rows) for part, rows in zip(read, every, strict=True)]
    assert np.concatenate(numbers).tolist() == list(range(snapshot.num_rows))


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize("faces", ["", "test; all"])
def test_new_rows_are_those_of_another_key_face_or_vector(
    tmp_path: Path, shards: int, faces: str
) -> None:
    vectors = sample("random", 90, DIMENSION, 5)

    def rows(start: int, stop: int) -> list[EmbeddingRow]:
        return [
            embedded(f"{n // 3:02}.jpg", vectors[n], n % 3)
            if faces
            else embedded(f"{n:02}.jpg", vectors[n])
            for n in range(start, stop)
        ]

    before = rows(5, 70)
    after = rows(0, 60)
    after[20] = embedded(after[20].key, vectors[89], 20 % 3 if faces else None)
    info = make_info(2, DIMENSION, faces=faces)
    old = write(tmp_path / "old", before, info)
    new = write(tmp_path / "new", after, make_info(shards, DIMENSION, faces=faces))
    snapshot = featureid.open_snapshot(new)
    ranges = Side(new, old).ranges()
    found = [
        (key, vector.tobytes())
        for range_ in ranges
        for part in [PartRows(snapshot, (range_,))]
        for key, vector in zip(
            part.values(layout.KEY, np.arange(part.num_rows)), part.vectors(), strict=True
        )
    ]
    wanted = [(row.key, row.vector.tobytes()) for row in (*after[:5], after[20])]
    assert sorted(found) == sorted(wanted)
    sizes = TileSizes(unit=2, held=3, tile=4)
    plan = MatchPlan(Side(new, old), Side(old), 4, None, sizes)
    whole_answer = {
        row: matches
        for row, matches in enumerate(expected(MatchPlan(Side(new), Side(old), 4, None)))
    }
    numbers = [
        int(number)
        for range_ in ranges
        for number in PartRows(snapshot, (range_,)).numbers(np.arange(range_.num_rows))
    ]
    assert match(plan, random.Random(0)) == [whole_answer[number] for number in numbers]
    gallery = MatchPlan(Side(old), Side(new, old), 2, None, sizes)
    for matches in match(gallery, random.Random(1)):
        assert {row for _, row, _, _ in matches} <= set(numbers) and len(matches) == 2


def test_the_smaller_side_is_held() -> None:
    few, many = [RowRange(0, 0, 10)], [RowRange(n, 0, 100) for n in range(8)]
    sizes = TileSizes(unit=5, held=20, tile=200, tiles=1, file=100)
    tiling = make_tiling(few, many, 10, sizes)
    assert tiling.holds_queries and len(tiling.gallery) == 4 and tiling.num_tiles == 4
    assert make_tiling(few, many, 10, replace(sizes, tiles=8)).num_tiles == 8
    tiling = make_tiling(many, few, 10, sizes)
    assert not tiling.holds_queries and len(tiling.gallery) == 1 and len(tiling.units) == 160
    assert tiling.num_tiles == 4 and tiling.num_files == 80
    nothing = make_tiling([], many, None, sizes)
    assert nothing.num_tiles == 0 and nothing.num_files == 1
