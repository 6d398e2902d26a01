"""The file of the sign codes of a snapshot, beside its folder: ``SNAPSHOT.index``.

It is no part of the snapshot: it can be made at any time, and deleted. A line of JSON says which
manifest it belongs to, with the SHA-256 of what follows: center, counts and codes, little-endian.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from featureid.errors import CorruptFileError, UsageError
from featureid.matching.codes import STEPS, SignCodes
from featureid.storage import files
from featureid.storage.reader import Snapshot
from featureid.storage.selection import Selection
from featureid.storage.snapshot import index_place
from featureid.stored_json import decode_json, encode_json

FORMAT = "featureid-index"
VERSION = 1


@dataclass(frozen=True)
class _Header:
    """The first line of the file."""

    format: str
    version: int
    manifest: str
    sha256: str


def write_index(snapshot: Snapshot) -> tuple[str, SignCodes]:
    """Make and write the sign codes of a snapshot; return the place of the file, and the codes.

    Raises:
        StorageError: the snapshot cannot be read, or the file not be written.
    """
    codes = SignCodes.of(Selection(snapshot).batches, snapshot.model.dimension)
    body = b"".join(
        [
            codes.center.astype("<f4").tobytes(),
            codes.counts.astype("<u8").tobytes(),
            codes.codes.tobytes(),
        ]
    )
    header = _Header(FORMAT, VERSION, _digest(snapshot), hashlib.sha256(body).hexdigest())
    place = index_place(snapshot.folder)
    files.write_atomic(place, [encode_json(header), b"\n", body])
    return place, codes


def read_index(snapshot: Snapshot) -> SignCodes:
    """Return the sign codes of a snapshot.

    Raises:
        UsageError: there are none, or they are of another snapshot.
        CorruptFileError: the file is damaged.
        StorageError: it cannot be read.
    """
    place = index_place(snapshot.folder)
    anew = f"run featureid index {snapshot.folder}"
    if not files.exists(place):
        raise UsageError(f"{snapshot.folder} has no `index`; {anew}")
    line, _, body = files.read_bytes(place).partition(b"\n")
    try:
        header = decode_json(line, _Header)
    except ValueError as error:
        raise CorruptFileError(f"{place} is damaged ({error}); {anew}") from error
    if (header.format, header.version) != (FORMAT, VERSION):
        raise UsageError(f"{place} is {header.format} {header.version}, not {FORMAT} 1; {anew}")
    if header.manifest != _digest(snapshot):
        raise UsageError(f"{place} was made of another snapshot; {anew}")
    return _decoded(body, header, snapshot, f"{place} is damaged; {anew}")


def _decoded(body: bytes, header: _Header, snapshot: Snapshot, complaint: str) -> SignCodes:
    dimension, width = snapshot.model.dimension, -(-snapshot.model.dimension // 8)
    counts = 4 * dimension  # where they start
    codes = counts + 8 * STEPS * (dimension + 1)
    size = codes + snapshot.num_rows * width
    if len(body) != size or hashlib.sha256(body).hexdigest() != header.sha256:
        raise CorruptFileError(complaint)
    return SignCodes(
        np.frombuffer(body[:counts], "<f4").astype(np.float32),
        np.frombuffer(body[counts:codes], "<u8").astype(np.uint64).reshape(STEPS, -1),
        np.frombuffer(body, np.uint8, offset=codes).reshape(-1, width),
    )


def _digest(snapshot: Snapshot) -> str:
    """Return the SHA-256 of the manifest, which has those of all files."""
    return hashlib.sha256(snapshot.manifest.to_json()).hexdigest()
