"""What happens to pixels before a model sees them, and its digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError

PIXELS_REVISION = 1
"""Revision of the code that decodes and resizes.

Raise it with every change of :mod:`featureid.images` that gives any image other pixels: vectors of
other pixels are not comparable, and this number gives their model another digest.
"""

FACES_REVISION = 1
"""Revision of the code that finds and crops faces, likewise; it concerns face models only."""

_MAX_SIDE = 4096
_MAX_MARGIN = 4.0
_MAX_POINTS = 5


def canonical_json(value: object) -> bytes:
    """Return the JSON text of ``value`` that digests are computed from: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_digest(data: bytes) -> str:
    """Return ``sha256:`` and the 64 hexadecimal digits of the SHA-256 of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class FaceCrop:
    """How a face becomes the input of a model.

    Attributes:
        templates: kind of landmarks to their positions in the model's input, points (x, y) in
            pixels.  A similarity transform moves landmarks of a listed kind there.
        margin: what is added to every side of the box of a face without such landmarks, as a
            fraction of its longer side; the square around the result is resized.
        revision: the :data:`FACES_REVISION` that the model was built for.

    Raises:
        BundleError: a value is invalid, or belongs to another revision.
    """

    templates: Mapping[str, tuple[tuple[float, float], ...]] = field(hash=False)
    margin: float
    revision: int = FACES_REVISION

    def __post_init__(self) -> None:
        """Check the fields, and convert the numbers to floats."""
        if not isinstance(self.templates, Mapping):
            raise BundleError(f"face templates must be an object, got {self.templates!r}")
        points = {str(kind): _points(kind, value) for kind, value in self.templates.items()}
        object.__setattr__(self, "templates", points)
        (margin,) = _floats("face margin", [self.margin], 1)
        if not 0 <= margin <= _MAX_MARGIN:
            raise BundleError(f"face margin must be from 0 to {_MAX_MARGIN}, got {margin}")
        object.__setattr__(self, "margin", margin)
        _check_int("face revision", self.revision, 0, 2**31)
        _check_revision("faces", self.revision, FACES_REVISION)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    Attributes:
        height: rows of the model's input, in pixels.
        width: columns of the model's input, in pixels.
        mean: subtracted from the red, green and blue values, which are 0 to 255.
        std: what the differences are then divided by.
        resize: ``stretch``: the whole upright image is resized without keeping its aspect ratio.
        revision: the :data:`PIXELS_REVISION` that the model was built for.
        face: how a face of the image is cropped; None for a model of whole images.

    Raises:
        BundleError: a value is invalid, or belongs to another revision.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "stretch"
    revision: int = PIXELS_REVISION
    face: FaceCrop | None = None

    def __post_init__(self) -> None:
        """Check the fields, and convert the numbers to floats."""
        for name in ("height", "width"):
            _check_int(name, getattr(self, name), 1, _MAX_SIDE)
        for name in ("mean", "std"):
            object.__setattr__(self, name, _floats(name, getattr(self, name), 3))
        if min(self.std) <= 0:
            raise BundleError(f"std must be positive, got {self.std}")
        if self.resize != "stretch":
            raise BundleError(f"unknown resize policy {self.resize!r}; known: 'stretch'")
        _check_int("revision", self.revision, 0, 2**31)
        _check_revision("pixels", self.revision, PIXELS_REVISION)
        if self.face is not None and not isinstance(self.face, FaceCrop):
            raise BundleError(f"face must be a FaceCrop or None, got {self.face!r}")

    @property
    def digest(self) -> str:
        """The identity of this preprocessing: the SHA-256 of its canonical JSON."""
        return self.digest_with({})

    def digest_with(self, choices: Mapping[str, Any]) -> str:
        """Return the identity of this preprocessing together with choices of the run.

        Args:
            choices: name to JSON value; everything else that determines a face's pixels.
        """
        return sha256_digest(canonical_json({**choices, **self.to_json()}))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; without ``face`` if it is None."""
        fields = asdict(self)
        if self.face is None:
            del fields["face"]
        return fields

    @classmethod
    def from_json(cls, value: object) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` describes.

        Raises:
            BundleError: a field is missing, invalid, or unknown to this version of featureid.
        """
        values = _fields_of(cls, "preprocessing", value, optional={"face"})
        if "face" in values:
            values["face"] = FaceCrop(**_fields_of(FaceCrop, "face", values["face"]))
        return cls(**values)

    def scale(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return ``(pixels - mean) / std`` as float32; ``pixels`` is uint8 (..., width, 3), RGB."""
        scaled = pixels.astype(np.float32)
        width = pixels.shape[-2]
        # NumPy is several times slower when the last axis has only 3 elements.
        rows = scaled.reshape(*pixels.shape[:-2], width * 3)
        rows -= np.tile(np.array(self.mean, np.float32), width)
        rows /= np.tile(np.array(self.std, np.float32), width)
        return scaled


def _fields_of(
    kind: type[Preprocessing] | type[FaceCrop],
    name: str,
    value: object,
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """Return ``value`` as arguments of ``kind``; raise BundleError if one is missing or unknown."""
    wanted = {field.name for field in fields(kind)}
    if not isinstance(value, Mapping) or set(value) | set(optional) != wanted:
        found = sorted(map(str, value)) if isinstance(value, Mapping) else value
        raise BundleError(
            f"{name} must have the fields {sorted(wanted - set(optional))}, got {found!r}"
        )
    return dict(value)


def _check_revision(what: str, revision: int, current: int) -> None:
    if revision != current:
        raise BundleError(
            f"the model was built for {what} revision {revision}, but this version of featureid "
            f"computes revision {current}, whose vectors are not comparable; use the version of "
            "featureid that built the model, or build the model again"
        )


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise BundleError(f"{name} must be an integer from {low} to {high}, got {value!r}")


def _points(kind: object, value: object) -> tuple[tuple[float, ...], ...]:
    if not isinstance(value, (list, tuple)) or not 2 <= len(value) <= _MAX_POINTS:
        raise BundleError(f"template {kind!r} must have 2 to {_MAX_POINTS} points, got {value!r}")
    return tuple(_floats(f"a point of template {kind!r}", point, 2) for point in value)


def _floats(name: str, value: object, count: int) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)) and len(value) == count:
        with suppress(OverflowError):  # an integer too large for a float
            numbers = tuple(float(x) for x in value if type(x) in (int, float))
            if len(numbers) == count and all(map(math.isfinite, numbers)):
                return numbers
    words = {1: "a finite number", 2: "two finite numbers", 3: "three finite numbers"}
    raise BundleError(f"{name} must be {words[count]}, got {value!r}")
