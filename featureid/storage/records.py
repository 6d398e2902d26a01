"""What travels between the steps of a run: rows, failures, and what they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.keys import ImageLocations
from featureid.stored_json import Size, decode_json, encode_json

FloatArray = npt.NDArray[np.float32]

DTYPES = ("float32", "float16")
#: How far from 1 the length of a vector may be where it is written, as float32.
UNIT_TOLERANCE = 0.001
#: The same where it is read, by stored type: numbers added up in another order give another sum,
#: and float16 rounds each number by up to 2**-11 = 0.00049 of itself.
STORED_UNIT_TOLERANCE = {"float32": 0.00101, "float16": 0.0015}
#: The face index of a row that stands for a whole image, since no face was found in it.
WHOLE_IMAGE = -1
#: The most landmarks that a row has room for.
MAX_LANDMARKS = 5


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model behind the vectors, as far as stored files record it.

    Attributes:
        name: for people; the digest is the identity.
        digest: hex digest of the model bundle.
        preprocessing_digest: hex digest of all that happens to pixels before the model.
        dimension: numbers in a vector.
        dtype: ``float32`` or ``float16``, as stored.
        faces: how faces were found and chosen, one line for people and to be compared: with
            another one, the same image may have other rows. "" for a model of whole images.
    """

    name: str
    digest: str
    preprocessing_digest: str
    dimension: Size
    dtype: str = "float32"
    faces: str = ""

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise StorageError(f"Dimension {self.dimension} is not a vector length; give 1 or more")
        if self.dtype not in DTYPES:
            raise StorageError(f"dtype {self.dtype!r} cannot be stored; use {' or '.join(DTYPES)}")

    @classmethod
    def unverified(cls, name: str, dimension: int, dtype: str = "float32") -> ModelInfo:
        """Return the record of a model whose name is all that is known, as of imported vectors.

        Both digests become ``unverified:NAME``, so that such vectors compare with those that were
        imported under the same name, and never with those of a model that featureid ran.
        """
        if not name:
            raise StorageError("The model of imported vectors needs a name")
        digest = f"unverified:{name}"
        return cls(name, digest, digest, dimension, dtype)


def first_difference(one: ModelInfo, other: ModelInfo) -> tuple[str, str, str] | None:
    """Tell why feature IDs of two models do not compare: what differs, and both values.

    Name and dtype may differ, all else decides the numbers. None means that they compare.
    """
    for name, what in (
        ("digest", "model digest"),
        ("preprocessing_digest", "preprocessing digest"),
        ("dimension", "dimension"),
    ):
        values = str(getattr(one, name)), str(getattr(other, name))
        if values[0] != values[1]:
            return what, *values
    return None


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What every file of one snapshot says about it.

    Attributes:
        snapshot: the snapshot id, see :func:`featureid.storage.snapshot.new_snapshot_id`.
        created: UTC time in ISO 8601, ``2026-11-23T05:42:31Z``; the same in every file, so that
            a shard written twice by a retried step has the same bytes.
        writer: program and version, ``featureid 0.1.0``.
        model: what made the vectors.
        num_shards: how many shards hold the rows.
        locations: where the images are.
    """

    snapshot: str
    created: str
    writer: str
    model: ModelInfo
    num_shards: Size
    locations: ImageLocations = field(default_factory=ImageLocations)

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise StorageError(f"{self.num_shards} shards cannot hold anything; give 1 or more")


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is, in pixels of the upright original.

    Attributes:
        index: from 0 on, from left to right; :data:`WHOLE_IMAGE` where no face was found and the
            whole image was embedded.
        box: left, top, right, bottom; may reach past the border of the image.
        landmarks: up to five points (x, y); which ones, the detector decides.
        score: the detector's, higher is surer; scores of two detectors do not compare. NaN for a
            whole image.
    """

    index: int
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...] = ()
    score: float = math.nan

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if self.index < WHOLE_IMAGE or not (left < right and top < bottom):
            raise StorageError(f"face {self.index} with the box {self.box} is no face")
        if len(self.landmarks) > MAX_LANDMARKS:
            raise StorageError(
                f"a face has {len(self.landmarks)} landmarks; rows have room for {MAX_LANDMARKS}"
            )

    @classmethod
    def from_values(cls, index: int, box: FloatArray, landmarks: FloatArray, score: float) -> Face:
        """Return the face of a stored row.

        Args:
            index: its face index.
            box: (4,), left, top, right, bottom.
            landmarks: (5, 2), x and y; NaN where there is none.
            score: the detector's.
        """
        left, top, right, bottom = box.tolist()
        points = tuple((x, y) for x, y in landmarks.tolist() if not math.isnan(x))
        return cls(int(index), (left, top, right, bottom), points, float(score))


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRow:
    """One embedded image, or one face of it.

    Attributes:
        key: the image key, valid as UTF-8.
        vector: float32 (dimension,), of unit length.
        sha256: 32 bytes, the SHA-256 of the image file.
        source_size: bytes of the image file.
        source_version: ETag, generation or modification time, as the store names it; may be "".
        width: pixels of the upright original.
        height: pixels of the upright original.
        face: the face that was embedded; None for a model of whole images.
    """

    key: str
    vector: npt.NDArray[np.float32]
    sha256: bytes
    source_size: int
    source_version: str
    width: int
    height: int
    face: Face | None = None

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != np.float32:
            found = f"{self.vector.dtype} {self.vector.shape}"
            raise StorageError(f"{self.key}: the vector is {found}, not one row of float32")
        if len(self.sha256) != 32:
            raise StorageError(f"{self.key}: a SHA-256 has 32 bytes, this one {len(self.sha256)}")

    @property
    def order(self) -> tuple[str, int]:
        """What rows are sorted by: the key, then the face index."""
        return self.key, self.face.index if self.face else 0


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """An image without a feature ID, and why.

    Attributes:
        key: the image key.
        stage: the step that failed: ``list``, ``read``, ``decode``, ``detect`` or ``embed``.
        reason: a short stable code, fit to be counted.
        message: for people.
        source_version: as in :class:`EmbeddingRow`; "" where the file could not be looked at.
    """

    key: str
    stage: str
    reason: str
    message: str
    source_version: str = ""

    @property
    def of_content(self) -> bool:
        """Whether the image's bytes are to blame, so that to try them again changes nothing.

        What could not be read at all may be readable tomorrow, though the file stays the same.
        """
        return self.stage not in ("list", "read") or self.reason == "too-large"

    def to_json(self) -> bytes:
        """Return the failure as one line of JSON in UTF-8, with its line end."""
        return encode_json(self) + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Failure:
        """Read one line that :meth:`to_json` wrote; fields of later versions are ignored.

        Raises:
            CorruptFileError: the line is not a failure.
        """
        try:
            return decode_json(line, cls)
        except ValueError as error:
            raise CorruptFileError(f"{line[:60]!r} is not a failure: {error}") from error
