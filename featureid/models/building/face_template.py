"""Where a face's landmarks belong in the input of a model: ArcFace's template, or a file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import FeatureIdError, UsageError
from featureid.images.align import Point, similarity_transform
from featureid.images.dlib_faces import DLIBS_CROP
from featureid.models.preprocessing import FACES_REVISION, FaceCrop
from featureid.regular_files import read_regular
from featureid.stored_json import decode_json

ARCFACE = "arcface112"
ARCFACE_SIDE = 112
_MAX_BYTES = 1 << 16
# `arcface_dst` of InsightFace's python-package/insightface/utils/face_align.py: both eyes, the tip
# of the nose and both corners of the mouth, the image's left first.  There 0 is the center of the
# first pixel; here it is its edge.
_ARCFACE_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


class _Template(msgspec.Struct, frozen=True):
    """The JSON of a file with templates."""

    templates: dict[str, tuple[tuple[float, float], ...]]
    margin: float = 0.0


def arcface_crop() -> FaceCrop:
    """Return how a face is cropped for networks of 112 x 112 that use ArcFace's template.

    dlib's landmarks belong where they lie, on average, in a face whose YuNet points are at the
    template.
    """
    points = tuple((x + 0.5, y + 0.5) for x, y in _ARCFACE_POINTS)
    matrix = similarity_transform(DLIBS_CROP["yunet"], points)
    templates = {"dlib": _moved(DLIBS_CROP["dlib"], matrix), "yunet": points}
    return FaceCrop(templates, 0.0, FACES_REVISION)


def face_crop(name_or_file: str, size: tuple[int, int]) -> FaceCrop:
    """Return how a face is cropped for a model.

    Args:
        name_or_file: ``arcface112``, or a JSON file with ``templates``, kind of landmarks to a list
            of points (x, y), and, if wanted, ``margin``.
        size: (height, width) of the model's input.

    Raises:
        UsageError: the file cannot be read, or the template does not fit the input.
    """
    height, width = size
    if name_or_file == ARCFACE:
        if size != (ARCFACE_SIDE, ARCFACE_SIDE):
            raise UsageError(
                f"`face` is {ARCFACE}, but the network takes {height} x {width} pixels; give a "
                "file with the positions of the landmarks"
            )
        return arcface_crop()
    try:
        given = decode_json(read_regular(name_or_file, _MAX_BYTES), _Template)
        crop = FaceCrop(given.templates, given.margin, FACES_REVISION)
    except (OSError, ValueError, FeatureIdError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"`face` is {name_or_file!r}, which is neither {ARCFACE} nor a file with templates: "
            f"{cause}"
        ) from error
    if not crop.templates:
        raise UsageError(f"{name_or_file}: has no templates")
    for kind, points in crop.templates.items():
        if kind not in DLIBS_CROP:
            raise UsageError(
                f"{name_or_file}: no detector finds landmarks of the kind {kind!r}; known: "
                f"{', '.join(DLIBS_CROP)}"
            )
        if any(not (0 <= x <= width and 0 <= y <= height) for x, y in points):
            raise UsageError(
                f"{name_or_file}: a point of {kind!r} lies outside {height} x {width} pixels"
            )
    return crop


def _moved(points: Sequence[Point], matrix: npt.NDArray[np.float64]) -> tuple[Point, ...]:
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in moved)
