"""Compare two snapshots: rows added, removed and changed, and how the vectors differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.storage import layout
from featureid.storage.columns import Values
from featureid.storage.reader import Snapshot
from featureid.storage.records import first_difference

Matrix = npt.NDArray[np.float32]
#: What identifies a row: its image key and, if rows are faces, the face index; else 0.
Name = tuple[str, int]

#: Columns that show whether an image has changed, the most certain one first.
_IDENTITIES = ("sha256", "source_version")
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
_CHUNK = 1 << 16
_EXAMPLES = 20


@dataclass(frozen=True)
class Difference:
    """How two snapshots differ.

    Attributes:
        added: number of rows that only the second has.
        removed: number of rows that only the first has.
        shared: number of rows that both have.
        compared_by: what shows whether shared rows have changed: the column ``sha256`` or
            ``source_version`` if both snapshots have it, else ``vector`` if vectors can be
            compared; None if nothing does.
        changed: number of shared rows where that differs; None if nothing shows it.
        same: number of shared rows where it is the same; None if nothing shows it.
        examples: up to 20 keys each of rows added, removed and changed.
        same_model: whether model, preprocessing and dimension are the same, so that vectors can be
            compared.
        identical_vectors: number of shared rows whose vectors are equal bit for bit.
        cosine_percentiles: percentile -> cosine similarity of the two vectors of shared rows; empty
            if the models differ or no row is shared.
        overlap: with different models, the mean share of the ``k`` nearest neighbors of a row in
            the first that are among its ``k`` nearest in the second; None otherwise.
        k: number of neighbors.
        sampled_rows: number of rows from which ``overlap`` was computed.
    """

    added: int
    removed: int
    shared: int
    compared_by: str | None
    changed: int | None
    same: int | None
    examples: dict[str, list[str]]
    same_model: bool
    identical_vectors: int
    cosine_percentiles: dict[str, float]
    overlap: float | None
    k: int
    sampled_rows: int


@dataclass(frozen=True)
class _Rows:
    names: list[Name]
    vectors: Matrix
    dtype: str
    identities: dict[str, npt.NDArray[Any]]


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
    same_model = first_difference(first.model, second.model) is None
    compared_by, changed = _changed(one, two, here, there, same_model=same_model)
    lists = {
        "added": [name for name in two.names if name not in shared],
        "removed": [name for name in one.names if name not in shared],
        "changed": [] if changed is None else [one.names[row] for row in here[changed].tolist()],
    }
    cosines = np.zeros(0, np.float32)
    identical, overlap, sampled = 0, None, 0
    if same_model:
        cosines = row_cosines(one.vectors, two.vectors, here, there)
        identical = int(_equal_rows(one.vectors, two.vectors, here, there).sum())
    elif len(here) > k:
        chosen = np.sort(np.random.default_rng(0).permutation(len(here))[:sample])
        sampled = len(chosen)
        overlap = neighbor_overlap(one.vectors[here[chosen]], two.vectors[there[chosen]], k)
    return Difference(
        added=len(lists["added"]),
        removed=len(lists["removed"]),
        shared=len(here),
        compared_by=compared_by,
        changed=None if changed is None else int(changed.sum()),
        same=None if changed is None else int((~changed).sum()),
        examples={
            what: sorted({key for key, _ in names})[:_EXAMPLES] for what, names in lists.items()
        },
        same_model=same_model,
        identical_vectors=identical,
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


def _changed(
    one: _Rows,
    two: _Rows,
    here: npt.NDArray[np.intp],
    there: npt.NDArray[np.intp],
    *,
    same_model: bool,
) -> tuple[str | None, npt.NDArray[np.bool_] | None]:
    """Return what shows whether shared rows have changed, and (r,) which have."""
    for name in _IDENTITIES:
        if name in one.identities and name in two.identities:
            differ = one.identities[name][here] != two.identities[name][there]
            return name, differ.any(axis=1)
    if not same_model:
        return None, None
    # Rounded to float16, the same number has other bits.
    coarser = np.float32 if one.dtype == two.dtype else np.float16
    before, after = (rows.vectors.astype(coarser, copy=False) for rows in (one, two))
    return layout.VECTOR, ~_equal_rows(before, after, here, there)


def _equal_rows(
    one: npt.NDArray[Any],
    two: npt.NDArray[Any],
    here: npt.NDArray[np.intp],
    there: npt.NDArray[np.intp],
) -> npt.NDArray[np.bool_]:
    parts = [
        np.all(one[here[i : i + _CHUNK]] == two[there[i : i + _CHUNK]], axis=1)
        for i in range(0, len(here), _CHUNK)
    ]
    return np.concatenate([np.zeros(0, np.bool_), *parts])


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
    columns = {spec.name for spec in snapshot.columns()}
    identities = {name: snapshot.column(name) for name in _IDENTITIES if name in columns}
    return _Rows(
        list(zip(keys, faces, strict=True)),
        snapshot.vectors(),
        snapshot.model.dtype,
        {name: _as_rows(values) for name, values in identities.items() if _is_known(values)},
    )


def _is_known(values: Values) -> bool:
    """Return whether all rows have a value; a source version may be empty."""
    return isinstance(values, np.ndarray) or all(values)


def _as_rows(values: Values) -> npt.NDArray[Any]:
    array = np.asarray(values, object if isinstance(values, list) else None)
    return array.reshape(len(array), -1)
