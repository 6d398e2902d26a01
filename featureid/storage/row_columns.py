"""Embedding rows as columns, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from featureid.errors import StorageError
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.records import (
    HASH_BYTES,
    MAX_LANDMARKS,
    PDQ,
    EmbeddingRow,
    Face,
    ModelInfo,
    PerceptualHash,
)

#: The columns of an EmbeddingRow after its key and vector.
_ATTRIBUTES = (
    ColumnSpec("sha256", "uint8", (32,)),
    ColumnSpec("source_size", "int64"),
    ColumnSpec("source_version", "utf8"),
    ColumnSpec("width", "int32"),
    ColumnSpec("height", "int32"),
)
#: The columns of its face, where the model embeds faces.
_FACE_ATTRIBUTES = (
    ColumnSpec(layout.FACE_INDEX, "int32"),
    ColumnSpec("box", "float32", (4,)),
    ColumnSpec("landmarks", "float32", (MAX_LANDMARKS, 2)),
    ColumnSpec("score", "float32"),
)
#: Those of its perceptual hash, where it is stored.
_HASH_ATTRIBUTES = (
    ColumnSpec(layout.HASH, "uint8", (HASH_BYTES,)),
    ColumnSpec(layout.HASH_QUALITY, "uint8"),
)
FACE_COLUMNS = tuple(spec.name for spec in _FACE_ATTRIBUTES)
#: Those of them that are NaN where the detector does not say.
NAN_COLUMNS = ("landmarks", "score")
#: All columns of a row after its key and vector, by name, in the order in which they are stored.
ATTRIBUTES = {spec.name: spec for spec in (*_ATTRIBUTES, *_FACE_ATTRIBUTES, *_HASH_ATTRIBUTES)}


def row_columns(model: ModelInfo) -> tuple[ColumnSpec, ...]:
    """Return the columns in which rows of this model are stored."""
    vector = ColumnSpec(layout.VECTOR, model.dtype, (model.dimension,), "planes")
    face_columns = _FACE_ATTRIBUTES if model.faces else ()
    hash_columns = _HASH_ATTRIBUTES if model.hash == PDQ else ()
    return (ColumnSpec(layout.KEY, "utf8"), vector, *_ATTRIBUTES, *face_columns, *hash_columns)


def stored_hash(names: Iterable[str]) -> str:
    """Return which perceptual hash the columns of these names hold; "" for none."""
    return PDQ if {spec.name for spec in _HASH_ATTRIBUTES} <= set(names) else ""


def row_block(rows: Sequence[EmbeddingRow], model: ModelInfo) -> dict[str, Values]:
    """Return rows as columns: a list of strings, or an array (rows, …), by column name.

    Raises:
        StorageError: a vector has another dimension than the model, a row has a face and the model
            embeds whole images, it has a hash and none is stored, or the reverse.
    """
    for row in rows:
        if row.vector.shape != (model.dimension,):
            raise StorageError(
                f"{row.key}: the vector has shape {row.vector.shape}; the model "
                f"{model.name!r} has dimension {model.dimension}"
            )
        if (row.face is not None) != bool(model.faces):
            found = "a face" if row.face else "no face"
            takes = "faces" if model.faces else "whole images"
            raise StorageError(
                f"{row.key}: the row has {found}, but the model {model.name!r} takes {takes}"
            )
        if (row.hash is not None) != bool(model.hash):
            found = "a perceptual hash" if row.hash else "no perceptual hash"
            stores = f"the hash {model.hash}" if model.hash else "none"
            raise StorageError(f"{row.key}: the row has {found}, but the snapshot stores {stores}")
    digests = np.frombuffer(b"".join(row.sha256 for row in rows), np.uint8)
    return {
        layout.KEY: [row.key for row in rows],
        layout.VECTOR: np.stack([row.vector for row in rows]),
        "sha256": digests.reshape(-1, 32),
        "source_size": np.array([row.source_size for row in rows], "<i8"),
        "source_version": [row.source_version for row in rows],
        "width": np.array([row.width for row in rows], "<i4"),
        "height": np.array([row.height for row in rows], "<i4"),
        **_face_block([row.face for row in rows if row.face]),
        **_hash_block([row.hash for row in rows if row.hash]),
    }


def _hash_block(hashes: Sequence[PerceptualHash]) -> dict[str, Values]:
    if not hashes:
        return {}
    bits = np.frombuffer(b"".join(each.bits for each in hashes), np.uint8)
    return {
        layout.HASH: bits.reshape(-1, HASH_BYTES),
        layout.HASH_QUALITY: np.array([each.quality for each in hashes], np.uint8),
    }


def _face_block(faces: Sequence[Face]) -> dict[str, Values]:
    if not faces:
        return {}
    landmarks = np.full((len(faces), MAX_LANDMARKS, 2), np.nan, "<f4")
    for points, face in zip(landmarks, faces, strict=True):
        points[: len(face.landmarks)] = np.reshape(face.landmarks, (-1, 2))
    return {
        layout.FACE_INDEX: np.array([face.index for face in faces], "<i4"),
        "box": np.array([face.box for face in faces], "<f4"),
        "landmarks": landmarks,
        "score": np.array([face.score for face in faces], "<f4"),
    }


def embedding_rows(block: Mapping[str, Values]) -> Iterator[EmbeddingRow]:
    """Yield the rows of a block, the reverse of :func:`row_block`.

    Args:
        block: values by column name, those of faces and hashes only where they are stored.
    """
    faces: Sequence[Face | None] = [None] * len(block[layout.KEY])
    if layout.FACE_INDEX in block:
        columns = (block[name] for name in FACE_COLUMNS)
        faces = [Face.from_values(*values) for values in zip(*columns, strict=True)]
    hashes: Sequence[PerceptualHash | None] = [None] * len(faces)
    if layout.HASH in block:
        pairs = zip(block[layout.HASH], block[layout.HASH_QUALITY], strict=True)
        hashes = [PerceptualHash(np.asarray(bits).tobytes(), int(n)) for bits, n in pairs]
    for row, (key, face) in enumerate(zip(block[layout.KEY], faces, strict=True)):
        yield EmbeddingRow(
            key=key,
            vector=np.array(block[layout.VECTOR][row], np.float32),  # not a view of the block
            sha256=np.asarray(block["sha256"][row]).tobytes(),
            source_size=int(block["source_size"][row]),
            source_version=str(block["source_version"][row]),
            width=int(block["width"][row]),
            height=int(block["height"][row]),
            face=face,
            hash=hashes[row],
        )
