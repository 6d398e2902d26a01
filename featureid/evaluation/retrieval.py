"""Retrieval: whether the images nearest to one are of its class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.evaluation.trials import Images
from featureid.matching.exact import search_top

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Nearest:
    """What is nearest to each image of a class with several.

    Attributes:
        images: the images that were searched for, (q,); those without a feature ID as well.
        right: whether the nearest other image is of the same class, (q,), 0 or 1.
        precision: share of the ``k`` nearest that are of the same class, or of as many as there
            are, (q,).
        k: how many.
    """

    images: Rows
    right: Floats
    precision: Floats
    k: int


def nearest_of(images: Images, k: int) -> Nearest | None:
    """Search for each image among all others; None if there is no class with two images.

    An image without a feature ID finds nothing.
    """
    sizes = images.sizes.astype(np.intp)
    asked = np.flatnonzero(sizes[images.classes] > 1)
    if not len(asked) or images.embedded < 2:
        return None
    there = asked[asked < images.embedded]
    found = search_top(
        np.ascontiguousarray(images.vectors[there]),
        lambda: [images.vectors],
        k + 1,
        lambda rows: rows,
    )
    hits = np.zeros((len(asked), k))
    for place, (row, matches) in enumerate(zip(there.tolist(), found, strict=True)):
        others = matches.rows[matches.rows != row][:k]
        hits[place, : len(others)] = images.classes[others] == images.classes[row]
    possible = np.minimum(k, sizes[images.classes[asked]] - 1)
    within = np.arange(k) < possible[:, np.newaxis]
    return Nearest(asked, hits[:, 0], (hits * within).sum(axis=1) / possible, k)
