"""The records of a run: rows, failures, and the model and snapshot they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.keys import ImageLocations
from featureid.stored_json import Size, decode_json, encode_json

FloatArray = npt.NDArray[np.float32]

_UNVERIFIED = "unverified:"
DTYPES = ("float32", "float16")
#: How far from 1 the length of a vector may be when it is written, as float32.
UNIT_TOLERANCE = 0.001
#: The same when it is read, by stored type: a sum depends on the order of its terms, and float16
#: rounds each number by up to 2**-11 = 0.00049 of itself.
STORED_UNIT_TOLERANCE = {"float32": 0.00101, "float16": 0.0015}
#: The face index of a row that stands for a whole image in which no face was found.
WHOLE_IMAGE = -1
#: Maximum number of landmarks in a row.
MAX_LANDMARKS = 5
#: The perceptual hash that can be stored beside the vectors, see :mod:`featureid.images.pdq`.
PDQ = "pdq"
HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What stored files record of the model that computed the vectors.

    Attributes:
        name: a label; the identity is the digest.
        digest: hex digest of the model bundle.
        preprocessing_digest: hex digest of everything that happens to pixels before the model.
        dimension: numbers in a vector.
        dtype: ``float32`` or ``float16``, as stored.
        faces: how faces were found and chosen, in one line; with another line, the same image may
            have other rows. "" for a model of whole images.
        hash: the perceptual hash that is stored beside the vectors, ``pdq``; "" for none.
    """

    name: str
    digest: str
    preprocessing_digest: str
    dimension: Size
    dtype: str = "float32"
    faces: str = ""
    hash: str = ""

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise StorageError(f"Dimension {self.dimension} is not a vector length; give 1 or more")
        if self.dtype not in DTYPES:
            raise StorageError(f"dtype {self.dtype!r} cannot be stored; use {' or '.join(DTYPES)}")

    @classmethod
    def unverified(cls, name: str, dimension: int, dtype: str = "float32") -> ModelInfo:
        """Return the record of a model of which only the name is known, for imported vectors.

        Both digests are ``unverified:NAME``, so these vectors are comparable with others that were
        imported under the same name, and never with those of a model that featureid ran.

        Raises:
            StorageError: the name is empty.
        """
        if not name:
            raise StorageError("The model of imported vectors needs a name; give one with `model`")
        digest = f"{_UNVERIFIED}{name}"
        return cls(name, digest, digest, dimension, dtype)

    @property
    def is_unverified(self) -> bool:
        """Whether only a user's word says which model this is."""
        return self.digest.startswith(_UNVERIFIED)


def first_difference(one: ModelInfo, other: ModelInfo) -> tuple[str, str, str] | None:
    """Return why feature IDs of two models are not comparable: what differs, and both values.

    Name, stored type and hash may differ; None means that the feature IDs are comparable.
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
    """What every file of a snapshot records about it.

    Attributes:
        snapshot: the snapshot id, see ``storage.snapshot.new_snapshot_id``.
        created: UTC time in ISO 8601, ``2026-11-23T05:42:31Z``; the same in every file, so that
            a shard has the same bytes when a step is retried.
        writer: program and version, such as ``featureid 0.1.0``.
        model: the model that computed the vectors.
        num_shards: number of shards.
        locations: where the images were.
    """

    snapshot: str
    created: str
    writer: str
    model: ModelInfo
    num_shards: Size
    locations: ImageLocations = field(default_factory=ImageLocations)

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise StorageError(f"A snapshot cannot have {self.num_shards} shards; give 1 or more")

    @property
    def run(self) -> str:
        """The id of the run that writes it, which is that of the snapshot."""
        return self.snapshot


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is, in pixels of the upright original.

    Attributes:
        index: from 0, from left to right; :data:`WHOLE_IMAGE` if no face was found and the whole
            image was embedded.
        box: left, top, right, bottom; may extend beyond the image.
        landmarks: up to five points (x, y), in the order of the detector.
        score: confidence of the detector, on its own scale. NaN for a whole image.
    """

    index: int
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...] = ()
    score: float = math.nan

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if self.index < WHOLE_IMAGE or not (left < right and top < bottom):
            raise StorageError(f"invalid face box {self.box} of face {self.index}")
        if len(self.landmarks) > MAX_LANDMARKS:
            raise StorageError(
                f"a face has {len(self.landmarks)} landmarks; at most {MAX_LANDMARKS} can be stored"
            )

    @classmethod
    def from_values(cls, index: int, box: FloatArray, landmarks: FloatArray, score: float) -> Face:
        """Return the face of a stored row.

        Args:
            index: its face index.
            box: (4,), left, top, right, bottom.
            landmarks: (5, 2), x and y; NaN for missing ones.
            score: confidence of the detector.
        """
        left, top, right, bottom = box.tolist()
        points = tuple((x, y) for x, y in landmarks.tolist() if not math.isnan(x))
        return cls(int(index), (left, top, right, bottom), points, float(score))


@dataclass(frozen=True, slots=True)
class PerceptualHash:
    """What :func:`featureid.images.pdq.image_hash` returns, to be stored.

    Attributes:
        bits: 32 bytes.
        quality: from 0 to 100.
    """

    bits: bytes
    quality: int

    def __post_init__(self) -> None:
        if len(self.bits) != HASH_BYTES:
            raise StorageError(f"the hash has {len(self.bits)} bytes, not {HASH_BYTES}")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRow:
    """One embedded image, or one face of it.

    Attributes:
        key: the image key, valid Unicode.
        vector: float32 (dimension,), of unit length.
        sha256: 32 bytes, the SHA-256 of the image file.
        source_size: bytes of the image file.
        source_version: ETag, generation or modification time, as in ``docs/format.md``; may be "".
        width: pixels of the upright original.
        height: pixels of the upright original.
        face: the face that was embedded; None for a model of whole images.
        hash: the perceptual hash of the image; None if none is stored.
    """

    key: str
    vector: npt.NDArray[np.float32]
    sha256: bytes
    source_size: int
    source_version: str
    width: int
    height: int
    face: Face | None = None
    hash: PerceptualHash | None = None

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != np.float32:
            found = f"{self.vector.dtype} {self.vector.shape}"
            raise StorageError(f"{self.key}: the vector is {found}; it must be 1-D float32")
        if len(self.sha256) != 32:
            raise StorageError(f"{self.key}: the SHA-256 has {len(self.sha256)} bytes, not 32")

    @property
    def order(self) -> tuple[str, int]:
        """Image key and face index, by which rows are sorted."""
        return self.key, self.face.index if self.face else 0


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A dead letter: an image without a feature ID, and why.

    Attributes:
        key: the image key.
        stage: the step that failed: ``list``, ``read``, ``decode``, ``detect`` or ``embed``.
        reason: a short stable code, such as ``truncated``.
        message: the cause in words.
        source_version: as in :class:`EmbeddingRow`; "" if it could not be read.
        has_rows: whether the snapshot has rows of the image all the same, from an earlier run. They
            have no source version, so that the next run tries the image again.
    """

    key: str
    stage: str
    reason: str
    message: str
    source_version: str = ""
    has_rows: bool = False

    @property
    def of_content(self) -> bool:
        """Whether the image's bytes are the cause, so that trying them again changes nothing.

        An image that could not be read, or for which there was no memory, may succeed later,
        although it does not change.
        """
        passes = self.stage in ("list", "read") or self.reason == "no-memory"
        return not passes or self.reason == "too-large"

    def to_json(self) -> bytes:
        """Return the failure as one line of JSON in UTF-8, with its line end."""
        return encode_json(self) + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Failure:
        """Parse a line that :meth:`to_json` wrote; unknown fields are ignored.

        Raises:
            CorruptFileError: the line is not a failure.
        """
        try:
            return decode_json(line, cls)
        except ValueError as error:
            raise CorruptFileError(f"{line[:60]!r} is not a failure: {error}") from error
