"""Duplicates by their definition, with all scores of all pairs, for the tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featureid.matching.near import Nearness
from featureid.matching.scores import pair_scores

Mask = npt.NDArray[np.bool_]


def near_matrix(near: Nearness) -> Mask:
    """Return which rows are near which others, and themselves, (n, n)."""
    scores = np.array([pair_scores(query, near.vectors) for query in near.queries])
    result: Mask = scores >= np.float32(near.threshold)
    result |= (near.alike[:, np.newaxis] == near.alike) & (near.alike >= 0)
    for pairs, value in ((near.added, True), (near.removed, False)):
        result[pairs.one, pairs.other] = result[pairs.other, pairs.one] = value
        if value:
            sides = near.left[:, np.newaxis] & near.right
            result &= (sides | sides.T) & (near.parts[:, np.newaxis] == near.parts)
    np.fill_diagonal(result, val=True)
    return result


def naive_stars(
    near: Mask, weights: list[int], preference: list[int]
) -> list[tuple[int, list[int]]]:
    """Return center and other members of each group, as the documentation defines them."""
    left = {*range(len(near))}
    groups: list[tuple[int, list[int]]] = []
    while True:
        around = {row: [other for other in left if near[row, other]] for row in left}
        linked = [row for row in left if len(around[row]) > 1]
        if not linked:
            return groups
        center = min(
            linked, key=lambda row: (-sum(weights[o] for o in around[row]), preference[row])
        )
        groups.append((center, sorted({*around[center]} - {center})))
        left -= {*around[center]}
