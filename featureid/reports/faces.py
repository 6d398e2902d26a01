"""Images with the faces that were found in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from featureid.reports.page import Group, Picture, Report, Section, counted
from featureid.storage.records import Face

_COLOR = (0, 220, 60)


def annotated(pixels: npt.NDArray[np.uint8], faces: Sequence[Face]) -> Image.Image:
    """Return an image, (h, w, 3), with the boxes, landmarks and numbers of its faces drawn."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    for face in faces:
        left, top, right, bottom = face.box
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_COLOR, width=line)
        for x, y in face.landmarks:
            draw.ellipse((x - line, y - line, x + line, y + line), fill=_COLOR)
        place = left + 2 * line, top + line
        draw.text(place, str(face.index), fill=_COLOR, font_size=10 + 6 * line)
    return image


def faces_report(image: str, uri: str, faces: Sequence[Face], found_by: str) -> Report:
    """Return a report of the faces of an image: drawn onto it, and each by itself.

    Args:
        image: what the image is called.
        uri: where it is.
        faces: what was found.
        found_by: the detector and its settings.
    """
    whole = Picture(image, uri, faces=tuple(faces))
    crops = [
        Picture(f"face {face.index}", uri, face.box, notes=(_described(face),)) for face in faces
    ]
    sections = [Section("Image", groups=[Group(image, [whole])], wide=True)]
    if crops:
        sections.append(Section("Faces", groups=[Group(counted(len(crops), "face"), crops)]))
    return Report("Faces", sections, notes=(f"{counted(len(faces), 'face')} ({found_by})",))


def _described(face: Face) -> str:
    left, top, right, bottom = (round(edge) for edge in face.box)
    return f"{right - left} x {bottom - top} pixels, score {face.score:.2f}"
