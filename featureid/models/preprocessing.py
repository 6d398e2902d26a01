"""What happens to pixels before a model sees them, and the digest that names it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError

PIXELS_REVISION = 1
"""Revision of the code that decodes and resizes.

Raise it with every change of :mod:`featureid.images` that gives any image other pixels: vectors of
other pixels do not compare, and through this number their model has another digest.
"""

_MAX_SIDE = 4096


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of ``value`` that digests are taken of: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256_digest(data: bytes) -> str:
    """Return ``sha256:`` and the 64 hexadecimal digits of the SHA-256 of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    Attributes:
        height: rows of the model's input, in pixels.
        width: columns of the model's input, in pixels.
        mean: subtracted from the red, green and blue values of 0 to 255.
        std: what the differences are then divided by.
        resize: ``stretch``: the whole upright image is resized, its aspect ratio not kept.
        revision: the :data:`PIXELS_REVISION` that the model was made for.

    Raises:
        BundleError: a value is not usable, or belongs to another revision.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "stretch"
    revision: int = PIXELS_REVISION

    def __post_init__(self) -> None:
        """Check the fields, and make the numbers floats."""
        for name in ("height", "width"):
            _check_int(name, getattr(self, name), 1, _MAX_SIDE)
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three_floats(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise BundleError(f"std of the preprocessing is {self.std}, not positive")
        if self.resize != "stretch":
            raise BundleError(f"resize policy {self.resize!r} is unknown; known: 'stretch'")
        _check_int("revision", self.revision, 0, 2**31)
        if self.revision != PIXELS_REVISION:
            raise BundleError(
                f"the model was made for pixels revision {self.revision}, but this version of "
                f"featureid computes revision {PIXELS_REVISION}, whose vectors would not compare: "
                "use the version of featureid that made the model, or make the model again"
            )

    @property
    def digest(self) -> str:
        """The identity of this preprocessing: ``sha256:`` of its canonical JSON."""
        return sha256_digest(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` describes.

        Raises:
            BundleError: a field is missing, wrong, or unknown to this version of featureid.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != wanted:
            found = sorted(map(str, value)) if isinstance(value, Mapping) else value
            raise BundleError(f"preprocessing must have the fields {sorted(wanted)}, got {found!r}")
        return cls(**value)

    def scale(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return ``(pixels - mean) / std`` as float32; ``pixels`` is uint8 (..., width, 3), RGB."""
        scaled = pixels.astype(np.float32)
        width = pixels.shape[-2]
        # NumPy is several times slower when the last axis has only 3 elements.
        rows = scaled.reshape(*pixels.shape[:-2], width * 3)
        rows -= np.tile(np.array(self.mean, np.float32), width)
        rows /= np.tile(np.array(self.std, np.float32), width)
        return scaled


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise BundleError(f"{name} must be a whole number of {low} to {high}, got {value!r}")


def _three_floats(name: str, value: object) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)) and len(value) == 3:
        with suppress(OverflowError):  # of a huge int
            numbers = tuple(float(x) for x in value if type(x) in (int, float))
            if len(numbers) == 3 and all(map(math.isfinite, numbers)):
                return numbers
    raise BundleError(f"{name} must be three finite numbers, got {value!r}")
