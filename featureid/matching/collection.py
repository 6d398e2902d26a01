"""The rows whose duplicates are looked for, with what decides which of them is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.hashes import Hashes
from featureid.matching.parts import Part, PartRows
from featureid.matching.scores import pair_scores, query_vectors, row_vectors
from featureid.storage import layout
from featureid.storage.columns import Values
from featureid.storage.reader import Snapshot
from featureid.storage.selection import Selection

Matrix = npt.NDArray[np.float32]

_MODIFIED = re.compile(r"mtime:(\d+)")


@dataclass(frozen=True)
class Collection:
    """The rows that are compared.

    Attributes:
        keys: image keys.
        faces: index of each face; None for whole images.
        vectors: float32 (n, d).
        digests: SHA-256 of the files, (n, 32) uint8; None if the snapshot does not have them.
        pixels: width × height of the images, (n,).
        sizes: bytes of the files, (n,).
        modified: when the files were changed, in nanoseconds, (n,); 0 where that is not known.
        origin: (n,): 0 for rows of the collection, 1 for known ones that it is compared with.
        hashes: perceptual hashes of the images; None to go by the vectors alone.
        corrections: what scores are corrected by, float32 (n,), see
            :mod:`featureid.matching.scores`; None for plain scores.
    """

    keys: Sequence[str]
    faces: Sequence[int | None]
    vectors: Matrix
    digests: npt.NDArray[np.uint8] | None
    pixels: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    modified: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int8]
    hashes: Hashes | None = None
    corrections: Matrix | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)

    def take(self, rows: npt.NDArray[np.intp]) -> Collection:
        """Return some of the rows."""
        chosen = rows.tolist()
        return Collection(
            [self.keys[row] for row in chosen],
            [self.faces[row] for row in chosen],
            self.vectors[rows],
            None if self.digests is None else self.digests[rows],
            self.pixels[rows],
            self.sizes[rows],
            self.modified[rows],
            self.origin[rows],
            None if self.hashes is None else self.hashes.take(rows),
            None if self.corrections is None else self.corrections[rows],
        )

    def scores(self, row: int, others: npt.NDArray[np.intp]) -> Matrix:
        """Return the scores of a row with others, whose numbers are given, float32 (m,)."""
        here = there = None
        if self.corrections is not None:
            here, there = self.corrections[row], self.corrections[others]
        one, rest = self.vectors[row], self.vectors[others]
        return pair_scores(query_vectors(one, here), row_vectors(rest, there))


def read_collection(
    snapshot: Snapshot, prefix: str = "", origin: int = 0, hashes: bool = True
) -> Collection:
    """Return the rows of a snapshot whose keys start with a prefix.

    Args:
        snapshot: the snapshot; rows of imported vectors may lack everything but key and vector.
        prefix: what the keys start with; "" for all rows.
        origin: what the result says of all rows.
        hashes: whether to read the perceptual hashes, if there are any.
    """
    selection = Selection(snapshot, prefix)
    rows = _collected(snapshot, selection.vectors(), selection.column)
    return replace(
        rows,
        origin=np.full(len(rows), origin, np.int8),
        hashes=Hashes.read(selection) if hashes and snapshot.model.hash else None,
    )


def read_part(snapshot: Snapshot, part: Part) -> tuple[npt.NDArray[np.int64], Collection]:
    """Return the rows of a part of a snapshot without their hashes, and their numbers in it."""
    rows = PartRows(snapshot, part)
    every = np.arange(rows.num_rows)
    found = _collected(snapshot, rows.vectors(), lambda name: rows.values(name, every))
    return rows.numbers(every), found


def _collected(
    snapshot: Snapshot, vectors: Matrix, column: Callable[[str], Values | list[Any]]
) -> Collection:
    names = {spec.name for spec in snapshot.columns()}
    none = np.zeros(len(vectors), np.int64)

    def numbers(name: str) -> npt.NDArray[np.int64]:
        return np.asarray(column(name) if name in names else none, np.int64)

    versions = column("source_version") if "source_version" in names else [""] * len(none)
    times = (_MODIFIED.match(version) for version in versions)
    faces = column(layout.FACE_INDEX) if layout.FACE_INDEX in names else ()
    digests = np.asarray(column("sha256"), np.uint8) if "sha256" in names else None
    return Collection(
        keys=list(column(layout.KEY)),
        faces=[int(face) for face in faces] or [None] * len(none),
        vectors=vectors,
        digests=None if digests is None else digests.reshape(len(none), -1),
        pixels=numbers("width") * numbers("height"),
        sizes=numbers("source_size"),
        modified=np.array([int(time[1]) if time else 0 for time in times], np.int64),
        origin=none.astype(np.int8),
    )


def joined_collections(*parts: Collection) -> Collection:
    """Return the rows of one or several collections."""
    digests = [part.digests for part in parts if part.digests is not None]
    hashes = [part.hashes for part in parts if part.hashes is not None]
    return Collection(
        [key for part in parts for key in part.keys],
        [face for part in parts for face in part.faces],
        np.concatenate([part.vectors for part in parts]),
        np.concatenate(digests) if len(digests) == len(parts) else None,
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.modified for part in parts]),
        np.concatenate([part.origin for part in parts]),
        Hashes.joined(hashes) if len(hashes) == len(parts) else None,
    )


def mark_known(rows: Collection, before: Collection) -> Collection:
    """Return rows with ``origin`` 1 for those that another collection has, key and vector."""
    places = {name: row for row, name in enumerate(zip(before.keys, before.faces, strict=True))}
    found = np.array(
        [places.get(name, -1) for name in zip(rows.keys, rows.faces, strict=True)], np.intp
    )
    known = found >= 0
    known[known] = (rows.vectors[known] == before.vectors[found[known]]).all(axis=1)
    return replace(rows, origin=known.astype(np.int8))
