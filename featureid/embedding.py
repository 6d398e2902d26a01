"""From images to feature IDs: read, decode, resize, infer, normalise; one process, all its cores.

This is the whole of the work that a pipeline distributes, free of Beam, so that
:func:`generate_feature_id` and a pipeline give the same numbers.
"""

from __future__ import annotations

import functools
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, UsageError
from featureid.face_crops import DECODED_AT_LEAST, cut_faces, digest_of_run, finder_for
from featureid.images import DecodeLimits, FaceFinder, FaceSettings, decode_image, resize_image
from featureid.images.face_finder import FaceChoice
from featureid.inputs import ImageRef, read_image
from featureid.models import (
    DEFAULT_BACKEND,
    Backend,
    ModelBundle,
    Preprocessing,
    check_backend,
    open_backend,
    resolve_model,
)
from featureid.parallel import OrderedFutures, available_cpus
from featureid.storage.records import EmbeddingRow, Face, Failure, ModelInfo

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]
Result = EmbeddingRow | Failure
_Context = TypeVar("_Context")

DEFAULT_BATCH_SIZE = 8
# Batches queued or running for every thread: one at work, one waiting, so that no thread idles
# while results are handed on, and memory stays bounded by threads x 2 x batch size pictures.
_BATCHES_PER_THREAD = 2


@dataclass(frozen=True)
class EmbedSettings:
    """How to embed; what decides the numbers is in the model bundle, not here.

    Attributes:
        backend: a name of :data:`featureid.models.BACKENDS`.
        threads: pictures read and decoded at the same time; 0 means one a CPU core.
        batch_size: pictures in one call of the model.
        limits: the largest file that is read and the largest picture that is decoded.
        faces: which faces to take; None for a model of whole images, and for the defaults.
    """

    backend: str = DEFAULT_BACKEND
    threads: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    faces: FaceSettings | None = None

    def __post_init__(self) -> None:
        check_backend(self.backend)
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}; it must be 0 (all cores) or more")
        if self.batch_size < 1:
            raise UsageError(f"batch size is {self.batch_size}; it must be 1 or more")

    def with_faces(self, faces: FaceChoice | FaceSettings | None) -> EmbedSettings:
        """Return the settings with other faces: all about them, or which ones alone."""
        return replace(self, faces=FaceSettings(faces) if isinstance(faces, str) else faces)


def describe_model(
    model: str, settings: EmbedSettings, dtype: str = "float32"
) -> tuple[ModelBundle, EmbedSettings, ModelInfo]:
    """Load a model and find out what files will record about its vectors.

    Args:
        model: a known model's name, or the path of a bundle.
        settings: how to embed.
        dtype: how vectors are stored.

    Returns:
        The model, the settings with nothing left open that depends on what is installed, and the
        record.

    Raises:
        UsageError: the model is unknown, or takes whole images and the settings name faces.
        ModelError: the model or the face detector cannot be loaded or built.
    """
    bundle = resolve_model(model)
    finder = finder_for(bundle.preprocessing, settings.faces)
    info = ModelInfo(
        name=bundle.name,
        digest=bundle.digest,
        preprocessing_digest=digest_of_run(bundle.preprocessing, finder),
        dimension=bundle.dimension,
        dtype=dtype,
        faces=finder.line if finder else "",
    )
    return bundle, replace(settings, faces=finder.settings if finder else None), info


@dataclass(frozen=True)
class LoadedImage:
    """A picture or a face ready for the model, and what is to be remembered of its source.

    Attributes:
        pixels: (height, width, 3) uint8 RGB of the model's input size.
        sha256: digest of the file's bytes, 32 bytes.
        source_size: bytes of the file.
        width: of the upright original, in pixels.
        height: of the upright original, in pixels.
        face: the face that it is; None for a whole image.
    """

    pixels: Pixels
    sha256: bytes
    source_size: int
    width: int
    height: int
    face: Face | None = None


def load_image(
    uri: str,
    preprocessing: Preprocessing,
    limits: DecodeLimits | None = None,
    finder: FaceFinder | None = None,
) -> list[LoadedImage]:
    """Read and decode one picture; resize it, or cut out its faces.

    Args:
        uri: where the picture is.
        preprocessing: of the model.
        limits: what the picture may cost.
        finder: what finds faces, for a model of faces.

    Returns:
        One item, or with ``finder`` one for each face that is chosen, at least one.

    Raises:
        ImageError: the file cannot be read, is no picture that can be decoded, or has no face.
    """
    limits = limits or DecodeLimits()
    data = read_image(uri, limits.max_bytes)
    size = (preprocessing.height, preprocessing.width)
    image = decode_image(data, min_size=DECODED_AT_LEAST if finder else size, limits=limits)
    parts: list[tuple[Face | None, Pixels]]
    if finder:
        parts = [*cut_faces(image, finder, preprocessing)]
    else:
        parts = [(None, resize_image(image.pixels, *size))]
    sha256 = hashlib.sha256(data).digest()
    return [
        LoadedImage(pixels, sha256, len(data), width=image.width, height=image.height, face=face)
        for face, pixels in parts
    ]


def normalize(vector: Vector) -> Vector:
    """``vector`` (d,) divided by its Euclidean length, float32.

    Raises:
        ImageError: the vector is zero or not finite.
    """
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length):
        raise ImageError("embed", "non-finite", "the model returned a vector that is not finite")
    if length == 0:
        raise ImageError("embed", "zero-vector", "the model returned a vector of length zero")
    unit: Vector = (vector.astype(np.float64) / length).astype(np.float32)
    return unit


def infer_each(infer: Callable[[Pixels], Vector], batch: Pixels) -> Iterator[Vector | ImageError]:
    """Run a model on a batch; where that fails, on its halves, down to the picture at fault.

    Args:
        infer: (n, height, width, 3) uint8 to (n, d) float32.
        batch: (n, height, width, 3) uint8.

    Yields:
        For every picture in order its unit vector (d,) float32, or why there is none.
    """
    try:
        vectors = infer(batch)
    except Exception as error:  # The model may fail in any way; one bad picture must not.
        if len(batch) == 1:
            yield ImageError("embed", "inference-failed", f"{type(error).__name__}: {error}")
            return
        middle = len(batch) // 2
        yield from infer_each(infer, batch[:middle])
        yield from infer_each(infer, batch[middle:])
        return
    for vector in vectors:
        try:
            yield normalize(vector)
        except ImageError as error:
            yield error


class Embedder:
    """Embeds batches of images on a pool of threads that share the model; thread-safe.

    Every thread reads and decodes its own batch and then runs it through the model.  On a CPU each
    core has an interpreter of its own; a GPU has one model, and threads take turns with it, so
    that it works on one batch while the next ones are decoded.
    """

    def __init__(self, bundle: ModelBundle, settings: EmbedSettings) -> None:
        self._preprocessing = bundle.preprocessing
        self._settings = settings
        self.threads = settings.threads or available_cpus()
        probe = open_backend(bundle, settings.backend)
        models = min(self.threads, available_cpus()) if probe.concurrent else 1
        # Last in, first out: with little to do, the same few warm interpreters do it.
        self._models: queue.LifoQueue[Backend] = queue.LifoQueue()
        self._models.put(probe)
        for _ in range(models - 1):
            self._models.put(open_backend(bundle, settings.backend))
        finders = [finder_for(bundle.preprocessing, settings.faces) for _ in range(self.threads)]
        self.preprocessing_digest = digest_of_run(bundle.preprocessing, finders[0])
        self._finders: queue.LifoQueue[FaceFinder | None] = queue.LifoQueue()
        for finder in finders:
            self._finders.put(finder)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="embed")

    def submit(self, refs: Sequence[ImageRef]) -> Future[list[list[Result]]]:
        """Start to embed ``refs``.

        Returns:
            For each reference in order the list of its results: a failure, or its row, or one row
            per face from left to right. An image of which one face fails has no row at all.
        """
        return self._pool.submit(self._embed, tuple(refs))

    def close(self) -> None:
        """Stop the threads; what is queued is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _embed(self, refs: tuple[ImageRef, ...]) -> list[list[Result]]:
        loaded = [self._load_or_fail(ref) for ref in refs]
        images = [image for item in loaded if not isinstance(item, Failure) for image in item]
        pixels = [image.pixels for image in images]
        vectors = iter(self._infer(np.stack(pixels)) if pixels else ())
        results: list[list[Result]] = []
        for ref, item in zip(refs, loaded, strict=True):
            if isinstance(item, Failure):
                results.append([item])
                continue
            rows = [embedding_result(ref, image, next(vectors)) for image in item]
            failed = next((row for row in rows if isinstance(row, Failure)), None)
            results.append([failed] if failed else rows)
        return results

    def _load_or_fail(self, ref: ImageRef) -> list[LoadedImage] | Failure:
        try:
            return self._load(ref.uri)
        except ImageError as error:
            return failure(ref, error)

    def _load(self, uri: str) -> list[LoadedImage]:
        finder = self._finders.get()
        try:
            return load_image(uri, self._preprocessing, self._settings.limits, finder)
        finally:
            self._finders.put(finder)

    def _infer(self, batch: Pixels) -> list[Vector | ImageError]:
        model = self._models.get()
        try:
            return list(infer_each(model.embed, batch))
        finally:
            self._models.put(model)


def embedding_result(
    ref: ImageRef, image: LoadedImage, vector: Vector | ImageError
) -> EmbeddingRow | Failure:
    """What to store for an image, or a face of it, that went through the model."""
    if isinstance(vector, ImageError):
        return failure(ref, vector)
    return EmbeddingRow(
        key=ref.key,
        vector=vector,
        sha256=image.sha256,
        source_size=image.source_size,
        source_version=ref.version,
        width=image.width,
        height=image.height,
        face=image.face,
    )


def failure(ref: ImageRef, error: ImageError) -> Failure:
    """The row to store for an image that could not be embedded."""
    return Failure(ref.key, error.stage, error.reason, str(error), ref.version)


class BatchedStream(Generic[_Context]):
    """Feed single references to an :class:`Embedder` in batches and hand the results back.

    ``add`` yields what is done by then and waits only when enough work is queued to keep every
    thread busy; ``finish`` waits for the rest. Each result comes with the context that its
    reference was given with, such as the Beam window it belongs to.
    """

    def __init__(self, embedder: Embedder, batch_size: int) -> None:
        self._embedder = embedder
        self._batch_size = batch_size
        self._refs: list[ImageRef] = []
        self._contexts: list[_Context] = []
        limit = _BATCHES_PER_THREAD * embedder.threads
        self._running: OrderedFutures[list[_Context], list[list[Result]]] = OrderedFutures(limit)

    def add(self, ref: ImageRef, context: _Context) -> Iterator[tuple[_Context, Result]]:
        """Take one more reference; yield the results that are ready, each with its context."""
        self._refs.append(ref)
        self._contexts.append(context)
        if len(self._refs) == self._batch_size:
            yield from _each_result(self._submit())
        yield from _each_result(self._running.done())

    def finish(self) -> Iterator[tuple[_Context, Result]]:
        """Yield all results that are still due, each with its context."""
        if self._refs:
            yield from _each_result(self._submit())
        yield from _each_result(self._running.drain())

    def _submit(self) -> Iterator[tuple[list[_Context], list[list[Result]]]]:
        refs, contexts = self._refs, self._contexts
        self._refs, self._contexts = [], []
        return self._running.add(contexts, self._embedder.submit(refs))


def _each_result(
    batches: Iterable[tuple[list[_Context], list[list[Result]]]],
) -> Iterator[tuple[_Context, Result]]:
    for contexts, results in batches:
        for context, of_image in zip(contexts, results, strict=True):
            for result in of_image:
                yield context, result


@dataclass(frozen=True)
class _Single:
    """What embeds one picture at a time."""

    preprocessing: Preprocessing
    backend: Backend
    finder: FaceFinder | None
    lock: threading.Lock


@functools.lru_cache(maxsize=4)
def _single(model: str, faces: FaceSettings | None) -> _Single:
    bundle = resolve_model(model)
    finder = finder_for(bundle.preprocessing, faces)
    return _Single(bundle.preprocessing, open_backend(bundle), finder, threading.Lock())


def generate_feature_id(
    path: str | os.PathLike[str],
    model: str = "image",
    faces: FaceChoice | FaceSettings | None = None,
) -> Vector:
    """The feature ID of one picture, or of a face in it: the same numbers as a pipeline writes.

    Args:
        path: a local path, or a URI such as ``s3://bucket/a.jpg``.
        model: ``image``, ``face``, or the path of a model bundle.
        faces: for a model of faces, which one: ``largest`` (the default), ``center``, ``all``, or
            ``require-one``; or how to find them, too.

    Returns:
        (128,) float32, of unit length; for ``all`` (n, 128), a row a face, from left to right.

    Raises:
        ImageError: the file cannot be read or decoded, or has no face; it says why.
        ModelError: the model or the detector cannot be found or built.
        UsageError: ``faces`` is not one of these, or the model takes whole images.
    """
    settings = FaceSettings(faces) if isinstance(faces, str) else faces
    single = _single(model, settings)
    with single.lock:
        images = load_image(os.fspath(path), single.preprocessing, finder=single.finder)
        vectors = list(infer_each(single.backend.embed, np.stack([i.pixels for i in images])))
    unit: list[Vector] = []
    for vector in vectors:
        if isinstance(vector, ImageError):
            raise vector
        unit.append(vector)
    return np.stack(unit) if settings and settings.choose == "all" else unit[0]
