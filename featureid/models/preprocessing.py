"""What happens to pixels before a model sees them, and its digest."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError
from featureid.images.resize import ResizePolicy
from featureid.stored_json import canonical_json

PIXELS_REVISION = 2
"""Revision of the code that decodes and resizes.

Raise it with every change of :mod:`featureid.images` that gives any image other pixels: vectors of
other pixels are not comparable, and this number gives their model another digest.
"""

FACES_REVISION = 2
"""Revision of the code that finds and crops faces, likewise; it concerns face models only."""

Layout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]

MAX_SIDE = 4096
_MAX_MARGIN = 4.0
_MAX_POINTS = 5


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
    revision: int

    def __post_init__(self) -> None:
        points = {
            kind: tuple(_floats(f"a point of template {kind!r}", point) for point in template)
            for kind, template in self.templates.items()
        }
        for kind, template in points.items():
            if not 2 <= len(template) <= _MAX_POINTS:
                raise BundleError(
                    f"template {kind!r} must have 2 to {_MAX_POINTS} points, got {len(template)}"
                )
        object.__setattr__(self, "templates", points)
        (margin,) = _floats("face margin", [self.margin])
        if not 0 <= margin <= _MAX_MARGIN:
            raise BundleError(f"face margin must be from 0 to {_MAX_MARGIN}, got {margin}")
        object.__setattr__(self, "margin", margin)
        _check_revision("faces", self.revision, FACES_REVISION)


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a model.

    Attributes:
        height: rows of the model's input, in pixels.
        width: columns of the model's input, in pixels.
        mean: subtracted from the red, green and blue values, which are 0 to 255.
        std: what the differences are then divided by; red, green and blue, too.
        resize: how an upright image becomes one of that size.
        revision: the :data:`PIXELS_REVISION` that the model was built for.
        channels: their order in the model's input, ``rgb`` or ``bgr``.
        face: how a face of the image is cropped; None for a model of whole images.

    Raises:
        BundleError: a value is invalid, or belongs to another revision.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: ResizePolicy
    revision: int
    channels: Channels = "rgb"
    face: FaceCrop | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= MAX_SIDE:
                raise BundleError(f"{name} must be from 1 to {MAX_SIDE}, got {getattr(self, name)}")
        # Floats in any case: the digest of 127 is not that of 127.0.
        for name in ("mean", "std"):
            object.__setattr__(self, name, _floats(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise BundleError(f"std must be positive, got {self.std}")
        if self.channels not in get_args(Channels):
            raise BundleError(f"channels must be rgb or bgr, got {self.channels!r}")
        _check_revision("pixels", self.revision, PIXELS_REVISION)

    @property
    def digest(self) -> str:
        """The identity of this preprocessing: the SHA-256 of its canonical JSON."""
        return self.digest_with({})

    def digest_with(self, choices: Mapping[str, Any]) -> str:
        """Return the identity of this preprocessing together with choices of the run.

        Args:
            choices: name to JSON value; everything else that determines a face's pixels.
        """
        text = canonical_json({**choices, **self.to_json()})
        return "sha256:" + hashlib.sha256(text).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; without ``face`` if it is None."""
        fields = {**asdict(self), "resize": self.resize.to_json()}
        if self.face is None:
            del fields["face"]
        return fields

    def scale(self, pixels: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[np.float32]:
        """Return ``(pixels - mean) / std``, with the axes and channels of the model's input.

        Args:
            pixels: uint8 (n, height, width, 3), RGB.
            layout: ``nchw`` or ``nhwc``.

        Returns:
            float32 (n, 3, height, width) or (n, height, width, 3), C-contiguous.
        """
        count, height, width, _ = pixels.shape
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        order = self._order
        if layout == "nchw":
            scaled = np.empty((count, 3, height, width), np.float32)
            for plane, channel in enumerate(order):
                target = scaled[:, plane]
                np.subtract(pixels[..., channel], mean[channel], out=target, dtype=np.float32)
                target /= std[channel]
            return scaled
        scaled = self.arrange(pixels, layout).astype(np.float32)
        # NumPy is several times slower when the last axis has only 3 elements.
        rows = scaled.reshape(count, height, width * 3)
        rows -= np.tile(mean[order], width)
        rows /= np.tile(std[order], width)
        return scaled

    def arrange(self, pixels: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[np.uint8]:
        """Return pixels with the axes and channels of the model's input, for one that scales.

        Args:
            pixels: uint8 (n, height, width, 3), RGB.
            layout: ``nchw`` or ``nhwc``.

        Returns:
            uint8 (n, 3, height, width) or (n, height, width, 3), C-contiguous.
        """
        arranged = pixels if self.channels == "rgb" else pixels[..., self._order]
        if layout == "nchw":
            arranged = arranged.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(arranged)

    @property
    def _order(self) -> list[int]:
        return [0, 1, 2] if self.channels == "rgb" else [2, 1, 0]


def _check_revision(what: str, revision: int, current: int) -> None:
    if revision != current:
        raise BundleError(
            f"the model was built for {what} revision {revision}, but this version of featureid "
            f"computes revision {current}, whose vectors are not comparable; use the version of "
            "featureid that built the model, or build the model again"
        )


def _floats(name: str, values: Iterable[float]) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if not all(map(math.isfinite, numbers)):
        raise BundleError(f"{name} must be finite, got {numbers}")
    return numbers
