"""Images with faces: copies of the one real face that scikit-image contains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

# Where the face is in the photo of 512 x 512 pixels: left, top, right, bottom, by eye.
FACE = (176, 60, 272, 175)
_HEAD = (110, 0, 330, 220)


def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


def head(size: int) -> Image.Image:
    """The head, with some of what is around it, ``size`` x ``size`` pixels."""
    return astronaut().crop(_HEAD).resize((size, size), Image.Resampling.LANCZOS)


def group(*places: tuple[int, int, int], size: tuple[int, int] = (1000, 400)) -> Image.Image:
    """Heads of (left, top, size) on gray."""
    image = Image.new("RGB", size, (128, 128, 128))
    for left, top, side in places:
        image.paste(head(side), (left, top))
    return image


def without_face() -> Image.Image:
    return Image.fromarray(skimage.data.coffee())


def rotated_by_exif(image: Image.Image, path: Path, orientation: int) -> None:
    """Save so that EXIF turns the stored pixels upright again, as a camera held sideways does."""
    turn = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.transpose(turn).save(path, quality=92, exif=exif)


def wide() -> Image.Image:
    """6,000 pixels wide, with a face in the right half."""
    image = Image.new("RGB", (6000, 3400), (90, 110, 130))
    image.paste(astronaut().resize((2048, 2048), Image.Resampling.LANCZOS), (3800, 700))
    return image


IMAGES: dict[str, Callable[[], Image.Image]] = {
    "one.png": astronaut,
    "gray.png": lambda: astronaut().convert("L"),
    "none.png": without_face,
    "several.png": lambda: group((700, 40, 220), (30, 20, 300), (380, 60, 260)),
    "tiny.png": lambda: Image.fromarray(np.full((8, 8, 3), 99, np.uint8)),
    "wide.jpg": wide,
    "cut.png": lambda: astronaut().crop((196, 40, 512, 400)),
}


def write_images(folder: Path) -> None:
    """Write all images, and an upright one and two turned by EXIF."""
    for name, make in IMAGES.items():
        make().save(folder / name)
    astronaut().save(folder / "upright.jpg", quality=92)
    for orientation in (6, 8):
        rotated_by_exif(astronaut(), folder / f"exif{orientation}.jpg", orientation)
