"""A report of what differs between two snapshots: images that came, changed and went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from featureid.difference import Difference
from featureid.matching.gallery import Gallery
from featureid.reports.page import Group, Report, Section, counted
from featureid.reports.pictures import picture_of
from featureid.storage.reader import Snapshot

#: Images whose neighbors are shown where the models differ, and how many neighbors.
SHOWN_IMAGES, SHOWN_NEIGHBORS = 12, 5
_TITLES = {"added": "New", "changed": "Changed", "removed": "Gone"}


def diff_report(
    found: Difference,
    first: Snapshot,
    second: Snapshot,
    lines: Sequence[str],
    root: str | None = None,
) -> Report:
    """Return a report of a difference.

    Args:
        found: how they differ.
        first: the older snapshot.
        second: the newer.
        lines: what else is to be said.
        root: the folder that the images were moved to; None if they are where they were.
    """
    sections = []
    for what, title in _TITLES.items():
        keys = found.examples[what]
        total = {"added": found.added, "changed": found.changed, "removed": found.removed}[what]
        place = first if what == "removed" else second
        pictures = [picture_of(place, key, root=root) for key in keys]
        if pictures:
            heading = f"{title}: {counted(total or 0, 'row')}"
            sections.append(Section(heading, groups=[Group(f"{len(pictures)} of them", pictures)]))
    if not found.same_model and found.overlap is not None:
        note = "Of each image, the nearest by the model of A, then those by the model of B."
        sections.append(Section("Neighbors", (note,), groups=_neighbors(first, second, root)))
    return Report("Difference", sections, notes=tuple(lines))


def _neighbors(first: Snapshot, second: Snapshot, root: str | None) -> Iterator[Group]:
    """Yield some images with their nearest ones in both snapshots."""
    shared = sorted({*first} & {*second})
    keys = shared[:: max(1, len(shared) // SHOWN_IMAGES)][:SHOWN_IMAGES]
    nearest = [_nearest(snapshot, keys) for snapshot in (first, second)]
    for number, key in enumerate(keys):
        pictures = [picture_of(second, key, root=root, badge="image")]
        for name, place, found in zip("AB", (first, second), nearest, strict=True):
            pictures += [
                picture_of(place, other, root=root, score=score, badge=name)
                for other, score in found[number]
            ]
        yield Group(key, pictures)


def _nearest(snapshot: Snapshot, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
    """Return for each image the keys and scores of the nearest others."""
    # Of an image with several faces, the first.
    vectors = np.stack([snapshot[key].reshape(-1, snapshot.model.dimension)[0] for key in keys])
    matches = Gallery(snapshot).search(vectors, SHOWN_NEIGHBORS + 1)
    found = []
    for key, others, scores in zip(keys, *matches, strict=True):
        pairs = zip(others, scores.tolist(), strict=True)
        found.append([pair for pair in pairs if pair[0] != key][:SHOWN_NEIGHBORS])
    return found
