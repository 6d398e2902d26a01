"""Labeled images as arrays: pixels for a network that is trained, features for one that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.embedding import Embedder, embed_all
from featureid.errors import ImageError, UsageError
from featureid.images.pdq import HASH_BYTES
from featureid.inputs import ImageRef
from featureid.matching.hashes import Hashes, close_hashes
from featureid.matching.lists import numbered
from featureid.model_input import load_image
from featureid.models.bundle import POOLED
from featureid.models.preprocessing import Preprocessing
from featureid.parallel import map_in_order
from featureid.storage import layout
from featureid.storage.reader import Snapshot
from featureid.storage.records import PDQ, Failure, PerceptualHash

Progress = Callable[[int], Any]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Loaded:
    """Images that could be loaded.

    Attributes:
        arrays: (n, …), pixels or features.
        kept: which of the references they are, (n,).
        hashes: their perceptual hashes.
        failures: the others.
    """

    arrays: npt.NDArray[Any]
    kept: Rows
    hashes: Hashes
    failures: tuple[Failure, ...]


def load_pixels(
    refs: Sequence[ImageRef], preprocessing: Preprocessing, folder: Path, progress: Progress
) -> Loaded:
    """Decode and resize images into a file, of which memory holds what is in use.

    Args:
        refs: the images.
        preprocessing: of the network.
        folder: where the file goes.
        progress: called with the number of images that are done.
    """
    shape = (len(refs), preprocessing.height, preprocessing.width, 3)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, shape)

    def load(ref: ImageRef) -> tuple[npt.NDArray[np.uint8], PerceptualHash | None] | Failure:
        try:
            (image,) = load_image(ref.uri, preprocessing, hash=PDQ)
        except ImageError as error:
            return Failure(ref.key, error.stage, error.reason, str(error), ref.version)
        return image.pixels, image.hash

    kept: list[int] = []
    hashes, failures = [], []
    for number, (_, loaded) in enumerate(map_in_order(load, refs)):
        progress(1)
        if isinstance(loaded, Failure):
            failures.append(loaded)
            continue
        pixels[len(kept)], found = loaded
        kept.append(number)
        hashes.append(found)
    return Loaded(pixels[: len(kept)], np.array(kept, np.intp), _joined(hashes), tuple(failures))


def load_features(refs: Sequence[ImageRef], embedder: Embedder, progress: Progress) -> Loaded:
    """Compute the features of images.

    Args:
        refs: the images.
        embedder: the network without a reduction, with perceptual hashes.
        progress: called with the number of images that are done.
    """
    kept, rows, failures = [], [], []
    for number, result in embed_all(refs, embedder):
        progress(1)
        if isinstance(result, Failure):
            failures.append(result)
        else:
            kept.append(number)
            rows.append(result)
    features = [row.vector for row in rows]
    empty = np.empty((0, embedder.info.dimension), np.float32)
    return Loaded(
        np.stack(features) if features else empty,
        np.array(kept, np.intp),
        _joined([row.hash for row in rows]),
        tuple(failures),
    )


def features_of_snapshot(snapshot: Snapshot, keys: Sequence[str]) -> Loaded:
    """Return the features of images in a snapshot, made by ``embed --output-layer pooled``.

    Args:
        snapshot: of one row for each image.
        keys: of the images, sorted.

    Raises:
        UsageError: it has other vectors.
    """
    model = snapshot.model
    if not model.name.endswith(POOLED) or model.faces:
        raise UsageError(
            f"{snapshot.folder} holds vectors of the model {model.name!r}; to train on features "
            "that have been computed, embed whole images with `output_layer='pooled'`"
        )
    place = {key: number for number, key in enumerate(snapshot.row_keys())}
    rows = np.array([place[key] for key in keys], np.intp)
    vectors = snapshot.vectors()[rows].astype(np.float32)
    # Those of a float16 snapshot have lengths that are rounded, too.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = Hashes.none(len(rows))
    if model.hash:
        bits, quality = (
            np.asarray(snapshot.column(name)) for name in (layout.HASH, layout.HASH_QUALITY)
        )
        hashes = Hashes.of(bits[rows], quality[rows])
    return Loaded(vectors, np.arange(len(rows)), hashes, ())


def _joined(hashes: Iterable[PerceptualHash | None]) -> Hashes:
    found = [hash or PerceptualHash(bytes(HASH_BYTES), 0) for hash in hashes]
    if not found:
        return Hashes.none(0)
    bits = np.frombuffer(b"".join(hash.bits for hash in found), np.uint8)
    return Hashes.of(
        bits.reshape(len(found), HASH_BYTES), np.array([hash.quality for hash in found], np.uint8)
    )


def copies_across(hashes: Hashes, parts: Rows) -> list[tuple[int, int]]:
    """Return pairs of images with nearly the same perceptual hash in two parts of a split.

    Of more than 64 images with one hash, each is paired with one of another part.

    Args:
        hashes: of the images, (n,).
        parts: the part of each, (n,); −1 for none.
    """
    one, other, alike = close_hashes(hashes)
    for rows in numbered(np.where(parts >= 0, alike, -1)):
        others = parts[rows] != parts[rows[0]]
        if others.any():
            one = np.append(one, np.where(others, rows[0], rows[others][0])[1:])
            other = np.append(other, rows[1:])
    apart = (parts[one] != parts[other]) & (parts[one] >= 0) & (parts[other] >= 0)
    return list(zip(one[apart].tolist(), other[apart].tolist(), strict=True))


def check_found(loaded: Loaded) -> None:
    """Refuse to go on without images.

    Raises:
        UsageError: none could be loaded.
    """
    if not len(loaded.kept):
        first = loaded.failures[0]
        raise UsageError(
            f"none of the {len(loaded.failures)} images can be used; the first, {first.key}: "
            f"{first.message}"
        )
