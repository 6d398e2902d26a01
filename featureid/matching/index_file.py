"""The file of the index of a snapshot, beside its folder: ``SNAPSHOT.index``.

It is no part of the snapshot: it can be made at any time, and deleted. A line of JSON says which
manifest it belongs to, and has a SHA-256 of itself and of what follows, little-endian: the center,
counts and codes of the sign codes, and of the inverted lists the centers, the number of each row's
list, the codebook, and the codes, list by list.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, UsageError
from featureid.matching.codes import STEPS, SignCodes
from featureid.matching.index import DEFAULT_RECALL, Index, Use
from featureid.matching.inverted_lists import CODEWORDS, NEIGHBORS, InvertedLists, Probing, parts_of
from featureid.matching.scores import UNIT_TOLERANCE
from featureid.storage import files
from featureid.storage.reader import Snapshot
from featureid.storage.snapshot import index_place
from featureid.stored_json import Size, decode_json, encode_json

Matrix = npt.NDArray[np.float32]

FORMAT = "featureid-index"
VERSION = 3


@dataclass(frozen=True)
class _Header:
    """The first line of the file.

    Attributes:
        format: see :data:`FORMAT`.
        version: see :data:`VERSION`.
        manifest: SHA-256 of the manifest of the snapshot.
        sha256: that of the file with "" here.
        recall: what was wanted.
        use: what it is for.
        lists: number of inverted lists.
        probings: what was measured of them.
    """

    format: str
    version: int
    manifest: str
    sha256: str
    recall: float
    use: Use
    lists: Size
    probings: tuple[Probing, ...]

    def __post_init__(self) -> None:
        if self.lists and any(probing.lists > self.lists for probing in self.probings):
            raise ValueError(f"only {self.lists} lists")
        if any(probing.k > NEIGHBORS[-1] for probing in self.probings):
            raise ValueError(f"more than {NEIGHBORS[-1]} neighbors")


@dataclass(frozen=True)
class _Start:
    """What a file of any version starts with."""

    format: str
    version: int


def write_index(
    snapshot: Snapshot, recall: float = DEFAULT_RECALL, use: Use = "both"
) -> tuple[str, Index]:
    """Make and write the index of a snapshot; return the place of the file, and the index.

    Raises:
        StorageError: the snapshot cannot be read, or the file not be written.
    """
    index = Index.of(snapshot, recall, use)
    place = index_place(snapshot.folder)
    files.write_atomic(place, [encode_index(index, snapshot)])
    return place, index


def read_index(snapshot: Snapshot) -> Index:
    """Return the index of a snapshot.

    Raises:
        UsageError: there is none, or it is of another snapshot.
        CorruptFileError: the file is damaged.
        StorageError: it cannot be read.
    """
    place = index_place(snapshot.folder)
    if not files.exists(place):
        raise UsageError(f"{snapshot.folder} has no `index`; run featureid index {snapshot.folder}")
    return decode_index(files.read_bytes(place), snapshot, place)


def encode_index(index: Index, snapshot: Snapshot) -> bytes:
    """Return the bytes of the file."""
    codes, lists = index.codes, index.lists
    list_of = np.empty(len(lists.rows), _numbers(len(lists.centers)))
    list_of[lists.rows] = np.repeat(np.arange(len(lists.sizes)), lists.sizes)
    body = b"".join(
        [
            codes.center.astype("<f4").tobytes(),
            codes.counts.astype("<u8").tobytes(),
            codes.codes.tobytes(),
            lists.centers.astype("<f4").tobytes(),
            list_of.tobytes(),
            lists.codebook.astype("<f4").tobytes(),
            lists.codes.tobytes(),
        ]
    )
    header = _Header(
        FORMAT,
        VERSION,
        _digest(snapshot),
        "",
        index.wanted,
        index.use,
        len(lists.centers),
        lists.probings,
    )
    header = replace(header, sha256=_checksum(header, body))
    return encode_json(header) + b"\n" + body


def decode_index(data: bytes, snapshot: Snapshot, place: str) -> Index:
    """Return the index in the bytes of a file.

    Raises:
        UsageError: it is of another snapshot, or of another version of featureid.
        CorruptFileError: the bytes are damaged.
    """
    anew = f"run featureid index {snapshot.folder}"
    line, _, body = data.partition(b"\n")
    try:
        start = decode_json(line, _Start)
        if (start.format, start.version) != (FORMAT, VERSION):
            raise UsageError(
                f"{place} is {start.format} {start.version}, not {FORMAT} {VERSION}; {anew}"
            )
        header = decode_json(line, _Header)
    except ValueError as error:
        raise CorruptFileError(f"{place} is damaged ({error}); {anew}") from error
    if header.manifest != _digest(snapshot):
        raise UsageError(f"{place} was made of another snapshot; {anew}")
    index = _decoded(body, header, snapshot)
    if index is None:
        raise CorruptFileError(f"{place} is damaged; {anew}")
    return index


def _decoded(body: bytes, header: _Header, snapshot: Snapshot) -> Index | None:
    """Return the index in the body of a file; None if it is damaged."""
    dimension, num_rows = snapshot.model.dimension, snapshot.num_rows
    width, parts = -(-dimension // 8), parts_of(dimension)
    coded = 0 if header.use == "nearest" else num_rows
    listed = num_rows if header.lists else 0
    arrays: list[tuple[np.dtype[Any], tuple[int, ...]]] = [
        (np.dtype("<f4"), (dimension,)),
        (np.dtype("<u8"), (STEPS, dimension + 1)),
        (np.dtype(np.uint8), (coded, width)),
        (np.dtype("<f4"), (header.lists, dimension)),
        (_numbers(header.lists), (listed,)),
        (np.dtype("<f4"), (parts, CODEWORDS, dimension // parts)),
        (np.dtype(np.uint8), (listed, -(-parts // 2))),
    ]
    sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in arrays]
    if len(body) != sum(sizes) or _checksum(header, body) != header.sha256:
        return None
    starts = accumulate(sizes, initial=0)
    center, counts, codes, centers, list_of, codebook, list_codes = (
        np.frombuffer(body, dtype, math.prod(shape), start)
        .reshape(shape)
        .astype(dtype.newbyteorder("="))
        for (dtype, shape), start in zip(arrays, starts, strict=False)
    )
    known = not listed or list_of.max(initial=0) < header.lists
    if not (known and _within(center, 1) and _within(centers, 1) and _within(codebook, 2)):
        return None
    rows = np.argsort(list_of, kind="stable").astype(np.uint32)
    list_sizes = np.bincount(list_of, minlength=header.lists)
    lists = InvertedLists(centers, list_sizes, rows, codebook, list_codes, header.probings)
    return Index(header.recall, header.use, SignCodes(center, counts, codes), lists)


def _numbers(lists: int) -> np.dtype[Any]:
    """Return how the numbers of so many lists are stored."""
    return np.dtype("<u2" if lists <= 1 << 16 else "<u4")


def _within(vectors: Matrix, length: int) -> bool:
    """Return whether vectors can be averages of some of that length."""
    return bool((np.abs(vectors) <= length * (1 + UNIT_TOLERANCE)).all())


def _checksum(header: _Header, body: bytes) -> str:
    """Return the SHA-256 of a file whose header has none."""
    return hashlib.sha256(encode_json(replace(header, sha256="")) + b"\n" + body).hexdigest()


def _digest(snapshot: Snapshot) -> str:
    """Return the SHA-256 of the manifest, which has those of all files."""
    return hashlib.sha256(snapshot.manifest.to_json()).hexdigest()
