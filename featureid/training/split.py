"""Which classes a model is trained on, validated with, and tested with at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError

Rows = npt.NDArray[np.intp]

PARTS = ("train", "validation", "test")
_LEAST = 2  # classes in a part: a pair of different ones


@dataclass(frozen=True)
class Split:
    """The images of three parts; no class is in two of them.

    Attributes:
        train: rows of the images that the model learns from.
        validation: rows by which training is watched.
        test: rows that tell at the end how good the model is; it has never seen them.
        left_out: classes of a single image, from which nothing can be learned.
    """

    train: Rows
    validation: Rows
    test: Rows
    left_out: tuple[str, ...]

    def part_of(self, images: int) -> npt.NDArray[np.intp]:
        """Return the part of each of so many images: 0, 1, 2; −1 for one that is left out."""
        parts = np.full(images, -1)
        for number, name in enumerate(PARTS):
            parts[getattr(self, name)] = number
        return parts


def split_classes(
    names: Sequence[str],
    validation: float,
    test: float,
    seed: int,
    given: Sequence[str] | None = None,
) -> Split:
    """Split images by class.

    Args:
        names: the class of each image.
        validation: share of the classes for validation.
        test: share of the classes for the test.
        seed: of the choice.
        given: the part that the user wants each image in; "" for no matter.

    Raises:
        UsageError: a part would have fewer than two classes, a given part has another name, or a
            class is given to two.
    """
    classes, own, counts = np.unique(names, return_inverse=True, return_counts=True)
    usable = np.flatnonzero(counts > 1)
    part = np.full(len(classes), -1)
    fixed = _given(names, given) if given is not None else {}
    for label, number in fixed.items():
        part[np.searchsorted(classes, label)] = number
    part[counts == 1] = -1
    free = np.random.default_rng(seed).permutation(usable[part[usable] < 0])
    wanted = [round(share * len(usable)) for share in (validation, test)]
    start = 0
    for number, count in enumerate(wanted, start=1):
        end = start + max(0, max(count, _LEAST) - int((part[usable] == number).sum()))
        part[free[start:end]] = number
        start = end
    part[free[start:]] = 0
    sizes = [int((part[usable] == number).sum()) for number in range(len(PARTS))]
    if min(sizes) < _LEAST:
        raise UsageError(
            f"of {len(usable)} classes with several images, {sizes[0]} are left to train on, "
            f"{sizes[1]} for validation and {sizes[2]} for the test; each needs {_LEAST}. Give "
            f"more classes: {len(classes) - len(usable)} have only one image"
        )
    train, checked, judged = (np.flatnonzero(part[own] == number) for number in range(len(PARTS)))
    return Split(train, checked, judged, tuple(classes[counts == 1].tolist()))


def _given(names: Sequence[str], given: Sequence[str]) -> dict[str, int]:
    """Return the part of each class that the user has put into one."""
    parts: dict[str, int] = {}
    for name, part in zip(names, given, strict=True):
        if not part:
            continue
        if part not in PARTS:
            raise UsageError(f"a `split` is {part!r}; it is one of {', '.join(PARTS)}")
        if parts.setdefault(name, PARTS.index(part)) != PARTS.index(part):
            raise UsageError(
                f"the class {name!r} is split between {PARTS[parts[name]]} and {part}; images of "
                "one class belong together, since a model is judged by classes that it has not seen"
            )
    return parts
