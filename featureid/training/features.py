"""Features of a frozen network for photos and edited copies of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.embedding import Embedder
from featureid.errors import ImageError
from featureid.images import DecodedImage, DecodeLimits
from featureid.inputs import ImageRef, read_image
from featureid.parallel import map_in_order
from featureid.storage.records import Failure
from featureid.training.edits import draw_edits, edited

Matrix = npt.NDArray[np.float32]

# Larger photos are made smaller before they are edited: networks see some hundred pixels of them.
_MOST_SIDE = 1024


@dataclass(frozen=True)
class EditedPhotos:
    """Features of photos and of edited copies of them.

    Attributes:
        features: float32 (photos, views, native dimension), of unit length; the first view of each
            photo is the photo itself.
        failures: photos that cannot be used.
    """

    features: Matrix
    failures: tuple[Failure, ...]


def edited_photos(
    refs: Sequence[ImageRef],
    embedder: Embedder,
    copies: int,
    most_edits: int,
    seed: int,
    progress: Callable[[int], Any] = lambda photos: None,
) -> EditedPhotos:
    """Compute features of photos, each with edited copies of its own.

    Args:
        refs: the photos.
        embedder: the network, without a reduction.
        copies: how many of each photo.
        most_edits: how often a copy is edited, see :func:`featureid.training.edits.draw_edits`.
        seed: of the choice of edits.
        progress: called with the number of photos that are done.
    """

    def views_of(item: tuple[int, ImageRef]) -> Matrix | Failure:
        number, ref = item
        chosen = draw_edits(copies, most_edits, np.random.default_rng((seed, number)))
        try:
            image = embedder.decode(read_image(ref.uri, DecodeLimits().max_bytes))
            pixels = [*_fitted(image, [*chosen], embedder)]
            return np.stack([*_vectors(embedder, np.stack(pixels))])
        except ImageError as error:
            return Failure(ref.key, error.stage, error.reason, str(error), ref.version)

    found, failures = [], []
    for _, result in map_in_order(views_of, enumerate(refs), embedder.threads):
        progress(1)
        if isinstance(result, Failure):
            failures.append(result)
        else:
            found.append(result)
    empty = np.empty((0, 1 + copies, embedder.info.dimension), np.float32)
    return EditedPhotos(np.stack(found) if found else empty, tuple(failures))


def _fitted(
    image: DecodedImage, edits: Sequence[Sequence[str]], embedder: Embedder
) -> Iterator[npt.NDArray[np.uint8]]:
    photo = Image.fromarray(image.pixels)
    small = photo.copy()
    small.thumbnail((_MOST_SIDE, _MOST_SIDE))
    for view in [photo, *(edited(small, names) for names in edits)]:
        pixels = np.asarray(view)
        height, width = pixels.shape[:2]
        for _, fitted in embedder.fit(replace(image, pixels=pixels, width=width, height=height)):
            yield fitted


def _vectors(embedder: Embedder, pixels: npt.NDArray[np.uint8]) -> Iterator[Matrix]:
    for vector in embedder.infer(pixels):
        if isinstance(vector, ImageError):
            raise vector
        yield vector
