"""Cells in steps: whatever the parts and slices, the result is that of one machine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.matching import cell_steps, cells
from featureid.matching.cell_steps import (
    Assigned,
    Drawn,
    NumberedRows,
    Parts,
    SampledPairs,
    cut_into_slices,
    edges_between,
    edges_of_cell,
)
from featureid.matching.cells import parts_by_cells, recall_of
from featureid.matching.forest import Forest
from featureid.matching.identical import identical_rows
from featureid.matching.near import Nearness
from tests.matching_samples import sample

THRESHOLD = 0.8


def edges_by_slices(batches: list[NumberedRows], slices: int) -> list[cell_steps.Numbers]:
    """Return the edges of a cell that is cut into slices."""
    rows: dict[int, list[NumberedRows]] = {}
    for number, some in cut_into_slices(batches, slices):
        rows.setdefault(number, []).append(some)
    joined = [NumberedRows.joined(some) for some in rows.values()]
    found = [edges_of_cell(one, THRESHOLD) for one in joined]
    for number, one in enumerate(joined):
        found += [edges_between(one, other, THRESHOLD) for other in joined[number + 1 :]]
    return found


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    rows=st.integers(2, 200),
    tasks=st.integers(1, 5),
    slices=st.integers(1, 4),
    max_part=st.sampled_from([20, 1 << 17]),
    seed=st.integers(0, 2**32),
)
def test_steps_find_the_parts_of_one_machine(
    kind: str, rows: int, tasks: int, slices: int, max_part: int, seed: int
) -> None:
    vectors = sample(kind, rows, 8, seed)
    numbers = np.random.default_rng(seed).permutation(rows)
    collection = NumberedRows(numbers, vectors[numbers])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_ROWS_PER_PIVOT", 20)
        patch.setattr(cells, "MAX_PART", max_part)
        patch.setattr(cell_steps, "_SENT_ROWS", 16)
        parts = [collection.take(some) for some in np.array_split(np.arange(rows), tasks)]
        drawn = Drawn.joined([Drawn.of(part, rows) for part in parts])
        assigned = [Assigned.of(part, drawn) for part in parts]
        edges = [one.edges for one in assigned]
        by_cell: dict[tuple[int, int], list[NumberedRows]] = {}
        for one in assigned:
            for cell, some in one.by_cell():
                by_cell.setdefault(cell, []).append(some)
        for batches in by_cell.values():
            edges += edges_by_slices(batches, slices)
        pairs = SampledPairs.joined(one.sampled_pairs(drawn, THRESHOLD) for one in assigned)
        found = Parts.of(np.concatenate(edges, axis=1))
        recall, large = found.recall(pairs), found.large()

        firsts, distinct_of = np.unique(identical_rows(vectors), return_inverse=True)
        near = Nearness.of(vectors[firsts], THRESHOLD)
        wanted = parts_by_cells(near, np.bincount(distinct_of), 1)
        wanted_recall = recall_of(near, wanted, rows)
    assert recall == wanted_recall
    if not large.any():
        forest = Forest(rows)
        forest.join(found.numbers, found.roots)
        labels = forest.labels()
        _, here = np.unique(labels, return_inverse=True)
        _, there = np.unique(firsts[wanted][distinct_of], return_inverse=True)
        np.testing.assert_array_equal(here, there)


def test_nothing_is_drawn_from_no_rows() -> None:
    assert Drawn.joined([]).pivots == () and len(Drawn.joined([]).sample) == 0
    none = Parts.of(np.empty((2, 0), np.int64))
    assert none.recall(SampledPairs.joined([])) == cells.Recall(0, 0)
