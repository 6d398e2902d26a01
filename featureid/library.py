"""Feature IDs in a Python program: of one image, of the faces in an image, of many images.

Models are loaded on first use and kept. All functions may be called from several threads at a time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.embedding import DEFAULT_BATCH_SIZE, Embedder, EmbedSettings
from featureid.errors import ImageError, UsageError
from featureid.images.decode import DecodedImage, DecodeLimits
from featureid.images.face_finder import FaceChoice, FaceSettings
from featureid.images.in_memory import image_from_array, image_from_pillow
from featureid.inputs import read_image
from featureid.models.zoo import resolve_model
from featureid.parallel import map_in_order
from featureid.storage.records import Face, ModelInfo

Vector = npt.NDArray[np.float32]
#: A path or URI, the bytes of an image file, uint8 pixels (h, w, 3) RGB or (h, w) gray, or a Pillow
#: image.
ImageLike = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8] | Image.Image

_Item = TypeVar("_Item")
_LOADING = threading.Lock()


def generate_feature_id(
    image: ImageLike,
    model: str | os.PathLike[str] = "image",
    faces: FaceChoice | FaceSettings | None = None,
) -> Vector:
    """Return the feature ID of one image, or of one face in it, as a pipeline computes it.

    Args:
        image: a local path; a URI such as ``s3://bucket/a.jpg``; the bytes of an image file; uint8
            pixels, (h, w, 3) RGB or (h, w) gray; or a Pillow image, whose EXIF orientation is
            applied. Pixels give the same numbers as a lossless file of them. A large JPEG file is
            decoded at a reduced scale, so that its pixels, decoded elsewhere, give slightly
            different numbers.
        model: ``image``, ``face``, or the path of a model bundle.
        faces: with a model of faces, which face to take: ``largest`` (the default), ``center``, or
            ``require-one``; or all settings. For all faces use :func:`embed_faces`.

    Returns:
        (128,) float32, of unit length; another model may have another dimension.

    Raises:
        ImageError: the image cannot be read or decoded, or has no face; its ``stage`` and
            ``reason`` are those of a failure row.
        ModelError: the model or the face detector cannot be found or built.
        UsageError: the image is none of the above, or ``faces`` does not fit the model.
    """
    embedder = _embedder(model, _one_face(faces), threads=1)
    (((_, vector),),) = _embed(embedder, [image], [_name(image)])
    return vector


def embed_faces(
    image: ImageLike,
    model: str | os.PathLike[str] = "face",
    faces: FaceChoice | FaceSettings = "all",
) -> list[tuple[Face, Vector]]:
    """Return the faces of one image, each with its feature ID.

    Args:
        image: as for :func:`generate_feature_id`.
        model: ``face``, or the path of a bundle with a model of faces.
        faces: which faces to take: ``all``, ``largest``, ``center``, or ``require-one``; or all
            settings.

    Returns:
        At least one face, from left to right: its place in pixels of the upright image, and
        (128,) float32, of unit length.

    Raises:
        ImageError: the image cannot be read or decoded, or has no face (reason ``no-face``), which
            in a pipeline is a failure, too.
        ModelError: the model or the face detector cannot be found or built.
        UsageError: the image cannot be used as given, or the model takes whole images.
    """
    embedder = _embedder(model, _settings(faces), threads=1)
    (found,) = _embed(embedder, [image], [_name(image)])
    return [(face, vector) for face, vector in found if face is not None]


def embed_images(
    images: Iterable[ImageLike],
    model: str | os.PathLike[str] = "image",
    faces: FaceChoice | FaceSettings | None = None,
    threads: int = 0,
) -> npt.NDArray[np.float32]:
    """Return the feature IDs of many images, on all cores.

    An image without a feature ID is an error, since a missing or an empty row would pass unnoticed
    into whatever is computed from the result. Where some images may be bad, run a pipeline, which
    makes them failure rows, or call :func:`generate_feature_id` for each.

    Args:
        images: what :func:`generate_feature_id` takes; taken one by one, as they are needed.
        model: ``image``, ``face``, or the path of a model bundle.
        faces: with a model of faces, which face of each image to take, as for
            :func:`generate_feature_id`.
        threads: images to read and decode at the same time; 0 means one per CPU core.

    Returns:
        (n, 128) float32, a row of unit length per image, in their order.

    Raises:
        ImageError: an image cannot be read or decoded, or has no face; the message begins with its
            number, from 0, and its path.
        ModelError: the model or the face detector cannot be found or built.
        UsageError: an image cannot be used as given, or ``faces`` does not fit the model.
    """
    if isinstance(images, str | os.PathLike | bytes | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    ):
        raise UsageError("embed_images takes several images; give a list of them")
    embedder = _embedder(model, _one_face(faces), threads)

    def embed(batch: Sequence[tuple[int, ImageLike]]) -> list[Vector]:
        names = [_number_and_name(number, image) for number, image in batch]
        found = _embed(embedder, [image for _, image in batch], names)
        return [vector for ((_, vector),) in found]

    batches = _batches(enumerate(images), DEFAULT_BATCH_SIZE)
    rows = [row for _, some in map_in_order(embed, batches, embedder.threads) for row in some]
    return np.array(rows, np.float32).reshape(-1, embedder.info.dimension)


def model_info(
    model: str | os.PathLike[str], faces: FaceChoice | FaceSettings | None = None
) -> ModelInfo:
    """Return the record of the model that these arguments of the functions above mean."""
    return _embedder(model, _settings(faces), threads=1).info


def _settings(faces: FaceChoice | FaceSettings | None) -> FaceSettings | None:
    return FaceSettings(faces) if isinstance(faces, str) else faces


def _one_face(faces: FaceChoice | FaceSettings | None) -> FaceSettings | None:
    settings = _settings(faces)
    if settings is not None and settings.choose == "all":
        raise UsageError(
            "faces is 'all', which gives an image several feature IDs; use embed_faces, or choose "
            "'largest', 'center' or 'require-one'"
        )
    return settings


def _embedder(model: str | os.PathLike[str], faces: FaceSettings | None, threads: int) -> Embedder:
    with _LOADING:  # so that of several threads one loads the model
        return _loaded(os.fspath(model), faces, threads)


@functools.lru_cache(maxsize=4)
def _loaded(model: str, faces: FaceSettings | None, threads: int) -> Embedder:
    return Embedder(resolve_model(model), EmbedSettings(threads=threads, faces=faces))


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _embed(
    embedder: Embedder, images: Sequence[ImageLike], names: Sequence[str]
) -> list[list[tuple[Face | None, Vector]]]:
    """Return for each image its faces, or None for the whole image, with their vectors.

    Raises:
        ImageError: there is none of an image, whose name the message begins with.
        UsageError: an image cannot be used as given; the same.
    """
    fitted = []
    for image, name in zip(images, names, strict=True):
        with naming(name):
            fitted.append(embedder.fit(decoded(image, embedder.decode)))
    vectors = iter(embedder.infer(np.stack([pixels for faces in fitted for _, pixels in faces])))
    found = []
    for faces, name in zip(fitted, names, strict=True):
        with naming(name):
            found.append([(face, _checked(next(vectors))) for face, _ in faces])
    return found


def decoded(image: ImageLike, decode: Callable[[bytes], DecodedImage]) -> DecodedImage:
    """Return an image that is given in any way, decoded.

    Args:
        image: the image.
        decode: decodes the bytes of a file.

    Raises:
        ImageError: it cannot be read or decoded.
        UsageError: it is not given in one of the ways of :data:`ImageLike`.
    """
    if isinstance(image, np.ndarray):
        return image_from_array(image)
    if isinstance(image, Image.Image):
        return image_from_pillow(image)
    if isinstance(image, bytes):
        return decode(image)
    if isinstance(image, str | os.PathLike):
        return decode(read_image(os.fspath(image), DecodeLimits().max_bytes))
    raise UsageError(
        f"an image is given as a path, URI, bytes, NumPy array or Pillow image, not as "
        f"{type(image).__name__}"
    )


def _checked(vector: Vector | ImageError) -> Vector:
    if isinstance(vector, ImageError):
        raise vector
    return vector


def _name(image: ImageLike) -> str:
    """Return the path of an image; "" if it has none."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else ""


def _number_and_name(number: int, image: ImageLike) -> str:
    name = _name(image)
    return f"image {number} ({name})" if name else f"image {number}"


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of an image, if it has one, in front of the message of its error."""
    try:
        yield
    except ImageError as error:
        raise ImageError(error.stage, error.reason, _joined(name, error)) from error
    except UsageError as error:
        raise UsageError(_joined(name, error)) from error


def _joined(name: str, error: Exception) -> str:
    message = str(error)
    return f"{name}: {message}" if name and not message.startswith(name) else message
