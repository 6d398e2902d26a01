"""Stars and components: the groups of the definition, whether pairs are held or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import groups as module
from featureid.matching.groups import batches, components, stars
from featureid.matching.near import Nearness
from tests.matching_samples import sample, unit
from tests.naive_duplicates import naive_stars, near_matrix
from tests.test_near import some_nearness


def chain(rows: int) -> Nearness:
    """Return rows of which each is near the next ones alone."""
    angles = np.radians(15 * np.arange(rows))
    return Nearness.of(unit(np.stack([np.cos(angles), np.sin(angles)], axis=1)), 0.95)


def star_list(near: Nearness) -> list[tuple[int, list[int]]]:
    found = stars(near, np.ones(len(near), np.intp), np.arange(len(near)))
    return [(center, members.tolist()) for center, members in found]


def test_stars_cut_chains_and_components_follow_them() -> None:
    assert star_list(chain(10)) == [(1, [0, 2]), (4, [3, 5]), (7, [6, 8])]
    every = np.ones(10, np.intp)
    (group,) = components(chain(10), every, np.arange(10))
    assert group[0] == 1 and group[1].tolist() == [0, *range(2, 10)]
    assert star_list(chain(1)) == []


def test_the_row_with_most_images_around_becomes_a_center() -> None:
    weights = np.array([1, 1, 1, 9, 1])
    found = [(c, m.tolist()) for c, m in stars(chain(5), weights, np.arange(5))]
    assert found == [(2, [1, 3])]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    rows=st.integers(1, 100),
    threshold=st.sampled_from([0.0, 0.5, 0.75, 0.999999]),
    held=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_stars_are_those_of_the_definition(
    kind: str, rows: int, threshold: float, held: bool, seed: int
) -> None:
    near = some_nearness(sample(kind, rows, 8, seed), threshold, seed)
    random = np.random.default_rng(seed)
    weights, preference = random.integers(1, 4, rows), random.permutation(rows)
    with pytest.MonkeyPatch.context() as patch:
        if not held:
            patch.setattr(module, "_MAX_HELD", -1)
            patch.setattr(module, "_MAX_HELD_PER_ROW", -1)
        found = [(c, m.tolist()) for c, m in stars(near, weights, preference)]
    assert found == naive_stars(near_matrix(near), weights.tolist(), preference.tolist())


@given(st.lists(st.integers(0, 9), max_size=60), st.sampled_from([1, 5, 512]))
def test_batches_hold_whole_parts_with_several_rows(parts: list[int], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_AT_ONCE", at_once)
        found = [batch.tolist() for batch in batches(np.array(parts, np.intp))]
    rows = [row for batch in found for row in batch]
    assert sorted(rows) == [row for row, part in enumerate(parts) if parts.count(part) > 1]
    seen = [{parts[row] for row in batch} for batch in found]
    assert sum(map(len, seen)) == len({*parts[:0]}.union(*seen))
    assert all(batch == sorted(batch) for batch in found)
