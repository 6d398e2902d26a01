"""Snapshots to be matched with each other, of several shards and small blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import featureid
from featureid.storage import layout
from featureid.storage.records import EmbeddingRow, Face, SnapshotInfo
from tests.matching_samples import Matrix, sample
from tests.storage_samples import make_info, write_rows

DIMENSION = 8
BLOCK_ROWS = 8


def embedded(key: str, vector: Matrix, face: int | None = None) -> EmbeddingRow:
    where = None if face is None else Face(face, (0, 0, 1, 1))
    return EmbeddingRow(key, vector, bytes(32), 1, "", 1, 1, where)


def write(
    place: Path, rows: list[EmbeddingRow], info: SnapshotInfo, block_rows: int = BLOCK_ROWS
) -> str:
    """Write a snapshot with small blocks; return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_ROWS", block_rows)
        write_rows(place, info, rows)
    return featureid.open_snapshot(place).folder


def matched_snapshots(place: Path) -> dict[str, str]:
    """Write snapshots of images, some random and many of tied scores, and of faces.

    Returns:
        Name -> folder: ``small``, ``large``, ``small faces`` and ``large faces``.
    """
    found = {}
    for name, rows, shards, seed in (("small", 40, 2, 1), ("large", 230, 3, 2)):
        kinds = [sample(kind, rows // 2, DIMENSION, seed) for kind in ("random", "tied")]
        # Keys of both kinds mix, and tied rows are not in the order of their keys.
        vectors = np.concatenate(kinds)[np.random.default_rng(seed).permutation(2 * (rows // 2))]
        images = [embedded(f"{n:03}.jpg", vector) for n, vector in enumerate(vectors)]
        found[name] = write(place / name, images, make_info(shards, DIMENSION))
        faces = [embedded(f"{n // 3:03}.jpg", vector, n % 3) for n, vector in enumerate(vectors)]
        info = make_info(shards, DIMENSION, faces="test; all")
        found[f"{name} faces"] = write(place / f"{name}_faces", faces, info)
    return found
