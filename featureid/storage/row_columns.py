"""Embedding rows as columns, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from featureid.errors import StorageError
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.records import MAX_LANDMARKS, EmbeddingRow, Face, ModelInfo

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
FACE_COLUMNS = tuple(spec.name for spec in _FACE_ATTRIBUTES)
#: Those of them that are NaN where the detector does not say.
NAN_COLUMNS = ("landmarks", "score")
#: All columns of a row after its key and vector, by name, in the order in which they are stored.
ATTRIBUTES = {spec.name: spec for spec in (*_ATTRIBUTES, *_FACE_ATTRIBUTES)}


def row_columns(model: ModelInfo) -> tuple[ColumnSpec, ...]:
    """Return the columns in which rows of this model are stored."""
    vector = ColumnSpec(layout.VECTOR, model.dtype, (model.dimension,), "planes")
    face_columns = _FACE_ATTRIBUTES if model.faces else ()
    return (ColumnSpec(layout.KEY, "utf8"), vector, *_ATTRIBUTES, *face_columns)


def row_block(rows: Sequence[EmbeddingRow], model: ModelInfo) -> dict[str, Values]:
    """Return rows as columns: a list of strings, or an array (rows, …), by column name.

    Raises:
        StorageError: a vector has another dimension than the model, or a row has a face and the
            model embeds whole images, or the reverse.
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
        block: values by column name, those of faces only where the model embeds faces.
    """
    faces: Sequence[Face | None] = [None] * len(block[layout.KEY])
    if layout.FACE_INDEX in block:
        columns = (block[name] for name in FACE_COLUMNS)
        faces = [Face.from_values(*values) for values in zip(*columns, strict=True)]
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
        )
