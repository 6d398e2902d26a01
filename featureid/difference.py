"""Compare two snapshots: rows added, removed and changed, and how the vectors differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.storage import layout
from featureid.storage.reader import Snapshot

Matrix = npt.NDArray[np.float32]
#: What identifies a row: its image key and, if rows are faces, the face index; else 0.
Name = tuple[str, int]

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
_CHUNK = 1 << 16
_EXAMPLES = 20


@dataclass(frozen=True)
class Difference:
    """How two snapshots differ.

    Attributes:
        added: number of rows that only the second has.
        removed: number of rows that only the first has.
        changed: number of rows that both have, of images whose SHA-256 differs.
        same: number of rows that both have, of images with the same SHA-256.
        examples: up to 20 keys each of rows added, removed and changed.
        same_model: whether model and preprocessing are the same, so that vectors can be compared.
        identical: number of shared rows whose vectors are equal bit for bit.
        cosine_percentiles: percentile -> cosine similarity of the two vectors of shared rows; empty
            if the models differ or no row is shared.
        overlap: with different models, the mean share of the ``k`` nearest neighbors of a row in
            the first that are among its ``k`` nearest in the second; None otherwise.
        k: number of neighbors.
        sampled_rows: number of rows from which ``overlap`` was computed.
    """

    added: int
    removed: int
    changed: int
    same: int
    examples: dict[str, list[str]]
    same_model: bool
    identical: int
    cosine_percentiles: dict[str, float]
    overlap: float | None
    k: int
    sampled_rows: int


@dataclass(frozen=True)
class _Rows:
    names: list[Name]
    vectors: Matrix
    digests: npt.NDArray[np.uint8]


def diff_snapshots(first: Snapshot, second: Snapshot, k: int, sample: int) -> Difference:
    """Compare two snapshots, holding both in memory.

    Args:
        first: the older.
        second: the newer.
        k: number of neighbors to compare if the models differ, 1 or more.
        sample: number of rows to draw for that, at random but always the same; more than ``k``.

    Raises:
        UsageError: ``k`` or ``sample`` is too small.
        StorageError: a snapshot is damaged or cannot be read.
    """
    if not 1 <= k < sample:
        raise UsageError(f"`k` is {k} and `sample` {sample}; give 1 or more, and a larger sample")
    one, two = _read(first), _read(second)
    places = {name: row for row, name in enumerate(two.names)}
    pairs = [(row, places[name]) for row, name in enumerate(one.names) if name in places]
    here, there = np.array(pairs, np.intp).reshape(-1, 2).T
    shared = {one.names[row] for row in here.tolist()}
    changed = np.any(one.digests[here] != two.digests[there], axis=1)
    same_model = first.model.digest == second.model.digest and (
        first.model.preprocessing_digest == second.model.preprocessing_digest
    )
    lists = {
        "added": [name for name in two.names if name not in shared],
        "removed": [name for name in one.names if name not in shared],
        "changed": [one.names[row] for row in here[changed].tolist()],
    }
    cosines = np.zeros(0, np.float32)
    identical, overlap, sampled = 0, None, 0
    if same_model:
        cosines = row_cosines(one.vectors, two.vectors, here, there)
        identical = _identical(one.vectors, two.vectors, here, there)
    elif len(here) > k:
        chosen = np.sort(np.random.default_rng(0).permutation(len(here))[:sample])
        sampled = len(chosen)
        overlap = neighbor_overlap(one.vectors[here[chosen]], two.vectors[there[chosen]], k)
    return Difference(
        added=len(lists["added"]),
        removed=len(lists["removed"]),
        changed=int(changed.sum()),
        same=int((~changed).sum()),
        examples={
            what: sorted({key for key, _ in names})[:_EXAMPLES] for what, names in lists.items()
        },
        same_model=same_model,
        identical=identical,
        cosine_percentiles={
            str(p): round(float(value), 6)
            for p, value in zip(PERCENTILES, np.percentile(cosines, PERCENTILES), strict=True)
        }
        if len(cosines)
        else {},
        overlap=overlap,
        k=k,
        sampled_rows=sampled,
    )


def row_cosines(
    one: Matrix, two: Matrix, here: npt.NDArray[np.intp], there: npt.NDArray[np.intp]
) -> Matrix:
    """Return the cosine similarity of rows ``here`` of one matrix and ``there`` of another.

    Args:
        one: (n, d) unit vectors.
        two: (m, d) unit vectors.
        here: (r,) row numbers in ``one``.
        there: (r,) row numbers in ``two``.

    Returns:
        (r,) float32.
    """
    parts = [
        np.einsum("ij,ij->i", one[here[i : i + _CHUNK]], two[there[i : i + _CHUNK]])
        for i in range(0, len(here), _CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _identical(
    one: Matrix, two: Matrix, here: npt.NDArray[np.intp], there: npt.NDArray[np.intp]
) -> int:
    return sum(
        int(np.all(one[here[i : i + _CHUNK]] == two[there[i : i + _CHUNK]], axis=1).sum())
        for i in range(0, len(here), _CHUNK)
    )


def neighbor_overlap(one: Matrix, two: Matrix, k: int) -> float:
    """Return the mean share of each row's ``k`` nearest rows that both matrices agree on.

    Args:
        one: (n, d) unit vectors.
        two: (n, e) unit vectors of the same images by another model.
        k: number of neighbors, less than n.
    """
    shares = [
        len(set(before.tolist()) & set(after.tolist())) / k
        for before, after in zip(_nearest(one, k), _nearest(two, k), strict=True)
    ]
    return round(float(np.mean(shares)), 4)


def _nearest(vectors: Matrix, k: int) -> npt.NDArray[np.intp]:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest: npt.NDArray[np.intp] = np.argpartition(-similar, k - 1, axis=1)[:, :k]
    return nearest


def _read(snapshot: Snapshot) -> _Rows:
    keys = snapshot.row_keys()
    faces = [0] * len(keys)
    if snapshot.has_faces():
        faces = np.asarray(snapshot.column(layout.FACE_INDEX)).tolist()
    digests = np.asarray(snapshot.column("sha256"))
    return _Rows(list(zip(keys, faces, strict=True)), snapshot.vectors(), digests)
