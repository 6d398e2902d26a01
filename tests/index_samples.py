"""Indexes of a small snapshot, for the fuzzer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featureid.matching.codes import SignCodes
from featureid.matching.index import Index
from featureid.matching.inverted_lists import InvertedLists, Probing
from featureid.storage.reader import Snapshot, open_snapshot
from tests.storage_samples import make_info, make_row, write_rows

INDEXED = [make_row(f"{n:02}", 8) for n in range(30)]
CODES = SignCodes.of(lambda: [np.stack([row.vector for row in INDEXED])], 8)
LISTS = InvertedLists(
    np.eye(5, 8, dtype=np.float32),
    np.array([6, 0, 12, 6, 6]),
    np.argsort([0, 2, 4, 2, 3] * 6, kind="stable").astype(np.uint32),
    np.random.default_rng(1).uniform(-0.5, 0.5, (4, 16, 2)).astype(np.float32),
    np.random.default_rng(2).integers(256, size=(30, 2), dtype=np.uint8),
    (Probing(10, 2, 0.2, 19, 20), Probing(20, 5, 1.0, 40, 40)),
)
INDEXES = (
    # Of a snapshot that is too small for lists, and with them.
    Index(0.9, "both", CODES, InvertedLists.none(8, (Probing(10, 4, 0.2, 3, 10),))),
    Index(0.9, "both", CODES, LISTS),
    Index(0.9, "nearest", SignCodes.none(8), LISTS),
    Index(0.9, "threshold", CODES, InvertedLists.none(8)),
)


def indexed_snapshot(folder: Path) -> Snapshot:
    """Return the snapshot that the indexes belong to."""
    if not (folder / "out").exists():
        write_rows(folder / "out", make_info(dimension=8), INDEXED)
    return open_snapshot(str(folder / "out"))


def use_index(index: Index) -> None:
    """Search by an index."""
    vectors = np.stack([row.vector for row in INDEXED])
    for threshold in (0.95, 0.5):
        index.recall(None, threshold)
    assert all(rows.max(initial=0) < 30 for _, rows in index.codes.pairs(vectors[:1], 0.5))
    for probing in index.lists.probings if len(index.lists.centers) else ():
        _, rows = index.lists.nearest(vectors[:1], vectors, probing.k, 12)
        assert rows.shape == (1, 12) and rows.max() < 30
