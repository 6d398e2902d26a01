"""Import vectors from other programs as a snapshot."""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import files, layout, published
from featureid.storage.columns import Values, take_rows
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.manifest import Manifest
from featureid.storage.records import WHOLE_IMAGE, SnapshotInfo
from featureid.storage.row_columns import ATTRIBUTES, row_columns
from featureid.storage.shard import (
    ShardEncoder,
    ShardSummary,
    cut_blocks,
    make_header,
    not_unit,
    row_steps,
    shard_name,
    shard_of,
)
from featureid.stored_json import decode_json

_NPY = b"\x93NUMPY"
_NPY_FLOATS = re.compile(r"[<>]f[248]")
_MAX_NPY_HEADER = 10_000


@dataclass(frozen=True, eq=False)
class Rows:
    """Vectors of another program and what they belong to, row by row.

    Attributes:
        source: the file that they come from, for messages.
        keys: the image keys.
        vectors: (rows, dimension) floats.
        attributes: column name -> values, of some of
            :data:`~featureid.storage.row_columns.ATTRIBUTES`; with ``face_index``, a key may have
            several rows.
    """

    source: str
    keys: Sequence[str]
    vectors: npt.NDArray[Any]
    attributes: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.vectors):
            raise StorageError(
                f"{self.source} has {len(self.vectors)} vectors, but there are {len(self.keys)} "
                "keys; give one key per vector"
            )


@dataclass(frozen=True, eq=False)
class Keys:
    """What the vectors of a file belong to, in its order: :class:`Rows` without vectors."""

    keys: Sequence[str]
    attributes: Mapping[str, Values] = field(default_factory=dict)


def row_name(source: str, row: int, key: str | None = None) -> str:
    """Return what messages call a row of a file."""
    return f"{source}: row {row} (from 0)" + ("" if key is None else f", {key!r}")


def read_vectors(path: str) -> npt.NDArray[Any]:
    """Return the vectors of a file of another program: (rows, dimension) floats.

    Args:
        path: ``.npy``, or else the published layout of many, gzipped if it ends in ``.gz``. Local
            files that are not gzipped are mapped into memory instead of read.

    Raises:
        CorruptFileError: it is not such a file, truncated, or too long.
        StorageError: it cannot be read.
    """
    data = files.map_bytes(path)
    try:
        if path.lower().endswith(".npy"):
            return view_npy(data)
        if path.lower().endswith(".gz"):
            data = memoryview(published.decompress_binary(data))
        return published.view_multiple_embeddings(data)
    except CorruptFileError as error:
        raise CorruptFileError(f"{path}: {error}") from error


def view_npy(data: memoryview) -> npt.NDArray[Any]:
    """Return the 2-D array of a .npy file as a view, without a copy.

    numpy.load raises many kinds of errors for damaged headers, and accepts files that are too long.

    Raises:
        CorruptFileError: it is not a .npy file of a 2-D float array, truncated, or too long.
    """
    try:
        kind, order, shape, start = _parse_npy(bytes(data[: _MAX_NPY_HEADER + 12]))
    except (ValueError, SyntaxError, struct.error, MemoryError, RecursionError) as error:
        raise CorruptFileError(
            f"it is not a .npy file holding a 2-D float array: {error}"
        ) from error
    wanted = start + shape[0] * shape[1] * kind.itemsize
    if len(data) != wanted:
        raise CorruptFileError(
            f"it has {len(data)} bytes, but an array of shape {shape} takes {wanted}; was it "
            "truncated?"
        )
    return np.frombuffer(data[start:], kind).reshape(shape, order=order)


def _parse_npy(head: bytes) -> tuple[np.dtype[Any], Any, tuple[int, int], int]:
    """Return dtype, order, shape, and the position of the first number."""
    if head[:6] != _NPY or len(head) < 12:
        raise ValueError("bad magic")
    length_type = struct.Struct("<H" if head[6] == 1 else "<I")
    (length,) = length_type.unpack_from(head, 8)
    start = 8 + length_type.size + length
    if start > len(head):
        raise ValueError(f"its header has {length} bytes")
    fields = ast.literal_eval(head[8 + length_type.size : start].decode("latin-1").strip())
    if not isinstance(fields, dict):
        raise ValueError("its header is not a dict")
    descr, shape = fields.get("descr"), fields.get("shape")
    if not isinstance(descr, str) or not _NPY_FLOATS.fullmatch(descr):
        raise ValueError(f"its numbers are {descr!r}")
    if not isinstance(shape, tuple) or len(shape) != 2 or any(type(n) is not int for n in shape):
        raise ValueError(f"its shape is {shape!r}")
    if shape[0] < 0 or shape[1] < 1:
        raise ValueError(f"its shape is {shape!r}")
    return np.dtype(descr), "F" if fields.get("fortran_order") else "C", shape, start


def read_keys(path: str) -> Keys:
    """Return the keys of a file: JSON lines if it ends in ``.jsonl``, else text, one key per line.

    Raises:
        CorruptFileError: a line is not an object with a ``key``.
        StorageError: it cannot be read.
    """
    try:
        text = files.read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptFileError(f"{path} is not UTF-8: {error.reason}") from error
    lines = text.removesuffix("\n").split("\n") if text else []
    if not path.endswith(".jsonl"):
        return Keys([line.removesuffix("\r") for line in lines])
    rows = [_key_line(path, number, line) for number, line in enumerate(lines, 1)]
    keys, faces = [row.key for row in rows], [row.face_index for row in rows]
    if all(face is None for face in faces):
        return Keys(keys)
    if None in faces:
        number = faces.index(None) + 1
        raise CorruptFileError(f"{path}: line {number} has no face_index, unlike other lines")
    return Keys(keys, {layout.FACE_INDEX: np.array(faces, "<i4")})


class _KeyLine(msgspec.Struct, frozen=True):
    """The JSON of one vector's key."""

    key: str
    face_index: Annotated[int, msgspec.Meta(ge=WHOLE_IMAGE, lt=1 << 31)] | None = None


def _key_line(path: str, number: int, line: str) -> _KeyLine:
    try:
        return decode_json(line.encode(), _KeyLine)
    except ValueError as error:
        raise CorruptFileError(f"{path}: line {number}: {error}") from error


def import_snapshot(writer: SnapshotWriter, rows: Rows, on_rows: Callable[[int], None]) -> Manifest:
    """Write rows as a snapshot, publish it, and return its manifest.

    Args:
        writer: the run; the model of its snapshot is from :meth:`ModelInfo.unverified`, or the one
            that made the vectors.
        rows: what to write; vectors must be of unit length.
        on_rows: called with the number of rows written, each time some have been.

    Raises:
        StorageError: a key occurs twice, a vector is not of unit length, or something cannot be
            written; then nothing is left behind.
    """
    info = writer.info
    with writer.running():
        steps = row_steps(rows.keys, rows.attributes.get(layout.FACE_INDEX))
        shards: list[list[int]] = [[] for _ in range(info.num_shards)]
        for row, key in enumerate(rows.keys):
            shards[shard_of(key, info.num_shards)].append(row)
        summaries = []
        for shard, members in enumerate(shards):
            members.sort(key=steps.__getitem__)
            _check_different(rows, members, steps)
            summaries.append(_write_shard(writer.folder, info, shard, rows, members))
            on_rows(len(members))
        return writer.commit(summaries, failures=[], changes={})


def _check_different(rows: Rows, members: list[int], steps: list[Any]) -> None:
    for before, row in pairwise(members):
        if steps[before] == steps[row]:
            what = "key and face index" if layout.FACE_INDEX in rows.attributes else "key"
            raise StorageError(
                f"{rows.source}: rows {before} and {row} (from 0) have the same {what}, "
                f"{steps[row]!r}; an image has one row, or one row per face with its face_index"
            )


def _write_shard(
    folder: str, info: SnapshotInfo, shard: int, rows: Rows, members: list[int]
) -> ShardSummary:
    """Write one shard of the sorted rows ``members``."""
    keys = [rows.keys[row] for row in members]
    attributes = [spec for name, spec in ATTRIBUTES.items() if name in rows.attributes]

    def blocks() -> Iterator[dict[str, Values]]:
        for start, end in cut_blocks(keys, layout.BLOCK_ROWS):
            block = np.array(members[start:end])
            vectors = rows.vectors[block]
            _check_lengths(rows, block, vectors)
            yield {
                layout.KEY: keys[start:end],
                layout.VECTOR: vectors,
                **{spec.name: take_rows(rows.attributes[spec.name], block) for spec in attributes},
            }

    name = shard_name(shard, info.num_shards)
    specs = (*row_columns(info.model)[:2], *attributes)
    encoder = ShardEncoder(name, make_header(info, shard, len(members), specs), blocks())
    files.write_atomic(files.join(folder, name), encoder)
    return encoder.summary


def _check_lengths(rows: Rows, members: npt.NDArray[np.intp], vectors: npt.NDArray[Any]) -> None:
    found = not_unit(vectors)
    if found is not None:
        place, length = found
        row = int(members[place])
        raise StorageError(
            f"{row_name(rows.source, row, rows.keys[row])}: the vector has length {length:.6g}, "
            "not 1; normalize vectors before importing them"
        )
