"""Which images of which classes make up a batch: functions of labels and a random generator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.intp]
Rows = npt.NDArray[np.intp]


def random_triplets(labels: Labels, rng: np.random.Generator) -> Rows:
    """Return one triplet for each image, in random order, as in the published method.

    The anchor is the image, the positive another image of its class, the negative an image of
    another class, which is drawn first, so that small classes come as often as large ones.  The
    published positive may be the anchor itself, from which nothing is learned; here it never is.

    Args:
        labels: (n,), the class of each image; at least two classes, of at least two images each.
        rng: where the choices come from.

    Returns:
        (n, 3): rows of anchors, positives and negatives.
    """
    order = np.argsort(labels, kind="stable")
    classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    own = np.searchsorted(classes, labels)
    place = np.empty(len(labels), np.intp)
    place[order] = np.arange(len(labels)) - starts[own[order]]
    # One of the others of the class: as many places further on as it has others, at most.
    steps = rng.integers(1, counts[own])
    positives = order[starts[own] + (place + steps) % counts[own]]
    other = (own + rng.integers(1, len(classes), len(labels))) % len(classes)
    negatives = order[starts[other] + rng.integers(0, counts[other])]
    triplets = np.stack([np.arange(len(labels)), positives, negatives], axis=1)
    return rng.permutation(triplets)


def class_batches(
    labels: Labels, classes: int, images: int, rng: np.random.Generator
) -> list[Rows]:
    """Return batches of P classes with K images each, in which every image occurs.

    The images of each class are dealt into groups of K, the last one of which is filled up with
    others of the class; P groups make a batch.  Two groups of one class may meet in a batch.

    Args:
        labels: (n,), the class of each image; each of at least two images.
        classes: P, how many groups make a batch; the last one has fewer, but at least two.
        images: K, at least 2.
        rng: where the order comes from.

    Returns:
        Rows of each batch, (P · K,), the groups one after the other.
    """
    groups = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        missing = -len(rows) % images
        if missing:
            rows = np.concatenate([rows, _filling(rows, missing, images)])
        groups += [*rows.reshape(-1, images)]
    order = rng.permutation(len(groups))
    batches = [order[start : start + classes] for start in range(0, len(order), classes)]
    if len(batches) > 1 and len(batches[-1]) < 2:
        last = batches.pop()
        batches[-1] = np.concatenate([batches[-1], last])
    return [np.concatenate([groups[group] for group in batch]) for batch in batches]


def _filling(rows: Rows, missing: int, images: int) -> Rows:
    """Return images that fill up the last group: others of the class first, then its own again."""
    last = len(rows) // images * images
    return np.resize(np.concatenate([rows[:last], rows[last:]]), missing)
