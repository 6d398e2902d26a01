"""Edits of photos: what copies of a photo look like, for training and for measuring."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Edit = Callable[[Image.Image], Image.Image]

_SEED = 20261129


def _encoded(kind: str, quality: int) -> Edit:
    def edit(photo: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        photo.save(stream, kind, quality=quality)
        return Image.open(stream).convert("RGB")

    return edit


def _cropped(share: float) -> Edit:
    """Cut the upper left off, and keep a share of width and height."""

    def edit(photo: Image.Image) -> Image.Image:
        left, top = (int((1 - share) * 0.6 * side) for side in photo.size)
        width, height = (max(1, int(share * side)) for side in photo.size)
        return photo.crop((left, top, left + width, top + height))

    return edit


def _scaled(share: float) -> Edit:
    def edit(photo: Image.Image) -> Image.Image:
        width, height = (max(1, round(share * side)) for side in photo.size)
        return photo.resize((width, height))

    return edit


def _barred(photo: Image.Image) -> Image.Image:
    marked = photo.copy()
    bar = (0, int(0.8 * photo.height), photo.width, int(0.9 * photo.height))
    ImageDraw.Draw(marked).rectangle(bar, fill=(255, 255, 255))
    return marked


def _written(photo: Image.Image) -> Image.Image:
    marked = photo.copy()
    place = photo.width // 20, photo.height // 20
    size = max(1, photo.height // 12)
    ImageDraw.Draw(marked).text(place, "a line of text", (255, 255, 0), font_size=size)
    return marked


def _noisy(photo: Image.Image) -> Image.Image:
    pixels = np.asarray(photo, np.float32)
    noise = np.random.default_rng(_SEED).normal(0, 15, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


#: By name; each takes and returns an RGB image, of at most 16,383 pixels on a side (WebP's limit).
EDITS: dict[str, Edit] = {
    "jpeg 50": _encoded("JPEG", 50),
    "jpeg 10": _encoded("JPEG", 10),
    "webp 30": _encoded("WEBP", 30),
    "double size": _scaled(2),
    "half size": _scaled(0.5),
    "quarter size": _scaled(0.25),
    "gray": lambda photo: photo.convert("L").convert("RGB"),
    "dark": lambda photo: ImageEnhance.Brightness(photo).enhance(0.6),
    "bright": lambda photo: ImageEnhance.Brightness(photo).enhance(1.4),
    "contrast": lambda photo: ImageEnhance.Contrast(photo).enhance(1.5),
    "blur": lambda photo: photo.filter(ImageFilter.GaussianBlur(photo.width / 200)),
    "noise": _noisy,
    "text": _written,
    "bar": _barred,
    "border": lambda photo: ImageOps.expand(photo, photo.width // 20, (255, 255, 255)),
    "crop 90 %": _cropped(0.9),
    "crop 80 %": _cropped(0.8),
    "crop 70 %": _cropped(0.7),
    "rotate 5": lambda photo: photo.rotate(5, Image.Resampling.BICUBIC),
    "rotate 15": lambda photo: photo.rotate(15, Image.Resampling.BICUBIC),
    "rotate 90": lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
    "flip": lambda photo: photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def draw_edits(copies: int, most: int, rng: np.random.Generator) -> Iterator[list[str]]:
    """Yield the names of the edits of each copy: in turn one edit, two, up to ``most``."""
    names = [*EDITS]
    for copy in range(copies):
        yield rng.choice(names, 1 + copy % most, replace=False).tolist()


def edited(photo: Image.Image, names: Sequence[str]) -> Image.Image:
    """Return a photo after some edits, one after the other."""
    for name in names:
        photo = EDITS[name](photo)
    return photo
