"""From images to feature IDs: read, decode, resize, infer, normalize; one process, all its cores.

This is all the work that a pipeline distributes, free of Beam, so that the functions of
:mod:`featureid.library` and a pipeline give the same numbers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, StorageError, UsageError
from featureid.face_crops import digest_of_run, finder_for
from featureid.images import (
    DecodedImage,
    DecodeLimits,
    FaceFinder,
    FaceSettings,
)
from featureid.images.face_finder import FaceChoice
from featureid.images.failures import lacks_memory, memory_errors, no_memory
from featureid.inputs import ImageRef, read_image
from featureid.limited_pool import Deadline, LimitedPool
from featureid.model_input import LoadedImage, Pixels, decode_for, fit_image, fitted_images
from featureid.models import (
    Backend,
    ModelBundle,
    backend_for,
    check_backend,
    open_backends,
    resolve_model,
)
from featureid.parallel import OrderedFutures, available_cpus
from featureid.storage.records import (
    PDQ,
    EmbeddingRow,
    Face,
    Failure,
    ModelInfo,
)

Vector = npt.NDArray[np.float32]
Result = EmbeddingRow | Failure
_Context = TypeVar("_Context")

_LOG = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE = 8
# Batches queued or running per thread: one at work, one waiting, so that no thread idles while
# results are handed on, and memory stays bounded by threads x 2 x batch size images.
_BATCHES_PER_THREAD = 2


@dataclass(frozen=True)
class EmbedSettings:
    """How to embed; what decides the numbers is in the model bundle, not here.

    Attributes:
        backend: a name in ``featureid.models.BACKENDS``; None for the one that the model needs.
        threads: images to read and decode at the same time; 0 means one per CPU core.
        batch_size: images in one call of the model.
        limits: the largest file to read and the largest image to decode.
        faces: which faces to take; None for a model of whole images, and for the defaults.
        hash: the perceptual hash to compute beside the vectors, ``pdq``; "" for none.
    """

    backend: str | None = None
    threads: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    faces: FaceSettings | None = None
    hash: str = ""

    def __post_init__(self) -> None:
        if self.hash not in ("", PDQ):
            raise UsageError(f"`hash` is {self.hash!r}; give {PDQ!r}, or '' for none")
        if self.backend is not None:
            check_backend(self.backend)
        if self.threads < 0:
            raise UsageError(f"`threads` is {self.threads}; it must be 0 (all cores) or more")
        if self.batch_size < 1:
            raise UsageError(f"`batch_size` is {self.batch_size}; it must be 1 or more")

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
        The model, the settings with nothing left open that depends on it or on what is installed,
        and the record.

    Raises:
        UsageError: the model is unknown, or takes whole images and the settings name faces, or
            takes faces and they name a hash, or the backend cannot run it.
        ModelError: the model or the face detector cannot be loaded or built.
    """
    bundle = resolve_model(model)
    check_hash(bundle, settings)
    finder = finder_for(bundle.preprocessing, settings.faces)
    used = replace(
        settings,
        backend=backend_for(bundle, settings.backend),
        faces=finder.settings if finder else None,
    )
    return bundle, used, replace(describe_bundle(bundle, finder), dtype=dtype, hash=settings.hash)


def check_hash(bundle: ModelBundle, settings: EmbedSettings) -> None:
    """Refuse to compute perceptual hashes for a model of faces.

    Raises:
        UsageError: the settings name a hash, and the model takes faces.
    """
    if settings.hash and bundle.preprocessing.face:
        raise UsageError(
            f"`hash` is {settings.hash!r}, but the model {bundle.name} takes faces, of which the "
            "hash of the whole image says nothing; leave it out"
        )


def describe_bundle(bundle: ModelBundle, finder: FaceFinder | None) -> ModelInfo:
    """Return what files record about a loaded model and what finds faces for it."""
    return ModelInfo(
        name=bundle.name,
        digest=bundle.digest,
        preprocessing_digest=digest_of_run(bundle.preprocessing, finder),
        dimension=bundle.dimension,
        faces=finder.line if finder else "",
    )


def normalize(vector: Vector) -> Vector:
    """Return ``vector`` (d,) divided by its Euclidean length, float32.

    The squares are exact and their sum is rounded once, so that every processor gives the same
    bits.

    Raises:
        ImageError: the vector is zero or not finite.
    """
    wide = vector.astype(np.float64)
    length = math.sqrt(math.fsum((wide * wide).tolist()))
    if not np.isfinite(length):
        raise ImageError("embed", "non-finite", "the model returned a vector that is not finite")
    if length == 0:
        raise ImageError("embed", "zero-vector", "the model returned a vector of length zero")
    unit: Vector = (wide / length).astype(np.float32)
    return unit


def infer_each(infer: Callable[[Pixels], Vector], batch: Pixels) -> Iterator[Vector | ImageError]:
    """Run a model on a batch; where that fails, on its halves, down to the image at fault.

    Args:
        infer: (n, height, width, 3) uint8 to (n, d) float32.
        batch: (n, height, width, 3) uint8.

    Yields:
        For every image in order its unit vector (d,) float32, or the reason why there is none.
    """
    try:
        vectors = infer(batch)
    except (
        Exception
    ) as error:  # A backend may raise anything; one bad image must not stop the rest.
        if len(batch) == 1:
            failed = ImageError("embed", "inference-failed", f"{type(error).__name__}: {error}")
            yield no_memory("embed") if lacks_memory(error) else failed
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

    Every thread reads and decodes its own batch and then runs it through the model. On a CPU as
    many threads do so at a time as there are cores; on a GPU they take turns, so that it works on
    one batch while the next ones are decoded.

    Attributes:
        threads: number of threads.
        info: the record of the model, with that of the face finder.
    """

    def __init__(self, bundle: ModelBundle, settings: EmbedSettings) -> None:
        self._preprocessing = bundle.preprocessing
        self._settings = settings
        self.threads = settings.threads or available_cpus()
        models = open_backends(bundle, settings.backend, min(self.threads, available_cpus()))
        # Last in, first out, so that under a light load the same few warm interpreters are used.
        self._models: queue.LifoQueue[Backend] = queue.LifoQueue()
        for model in models:
            self._models.put(model)
        finders = [finder_for(bundle.preprocessing, settings.faces) for _ in range(self.threads)]
        self.info = describe_bundle(bundle, finders[0])
        self._finders: queue.LifoQueue[FaceFinder | None] = queue.LifoQueue()
        for finder in finders:
            self._finders.put(finder)
        self._pool = LimitedPool(self.threads, settings.limits.max_seconds_per_image)

    def submit(self, refs: Sequence[ImageRef]) -> Future[list[list[Result]]]:
        """Start to embed ``refs``.

        Returns:
            For each reference in order the list of its results: a failure, or its row, or one row
            per face from left to right. If one face of an image fails, the image has no row.
        """
        return self._pool.submit(tuple(refs), self._load_or_fail, _too_slow, self._embed)

    def decode(self, data: bytes) -> DecodedImage:
        """Decode the bytes of an image file for this model; see :func:`decode_for`."""
        return decode_for(data, self._preprocessing, self._settings.limits)

    def fit(self, image: DecodedImage) -> list[tuple[Face | None, Pixels]]:
        """Resize an image or cut out its faces, on this thread; see :func:`fit_image`."""
        with self._finder() as finder:
            return fit_image(image, self._preprocessing, finder)

    def infer(self, batch: Pixels) -> list[Vector | ImageError]:
        """Run the model on this thread; see :func:`infer_each`."""
        model = self._models.get()
        try:
            return list(infer_each(model.embed, batch))
        finally:
            self._models.put(model)

    def close(self) -> None:
        """End the threads; what is not done is dropped."""
        self._pool.close()

    def _embed(
        self, refs: Sequence[ImageRef], loaded: list[list[LoadedImage] | Failure]
    ) -> list[list[Result]]:
        images = [image for item in loaded if not isinstance(item, Failure) for image in item]
        pixels = [image.pixels for image in images]
        vectors: Iterator[Vector | ImageError]
        try:
            vectors = iter(self.infer(np.stack(pixels)) if pixels else ())
        except MemoryError:  # outside of the model, which would be tried with fewer images
            vectors = itertools.repeat(no_memory("embed"))
        results: list[list[Result]] = []
        for ref, item in zip(refs, loaded, strict=True):
            if isinstance(item, Failure):
                results.append([item])
                continue
            rows = [embedding_result(ref, image, next(vectors)) for image in item]
            failed = next((row for row in rows if isinstance(row, Failure)), None)
            results.append([failed] if failed else rows)
        return results

    def _load_or_fail(self, ref: ImageRef, deadline: Deadline) -> list[LoadedImage] | Failure:
        try:
            with deadline.armed():
                data, image = self._read_and_decode(ref, deadline)
            with memory_errors("decode"), self._finder() as finder:
                return fitted_images(data, image, self._preprocessing, finder, self._settings.hash)
        except ImageError as error:
            return failure(ref, error)
        except (StorageError, UsageError) as error:  # no such store, or no package for it
            return failure(ref, ImageError("read", "unreadable", str(error)))

    def _read_and_decode(self, ref: ImageRef, deadline: Deadline) -> tuple[bytes, DecodedImage]:
        deadline.stage = "read"
        with memory_errors("read"):
            data = read_image(ref.uri, self._settings.limits.max_bytes)
        deadline.stage = "decode"
        return data, self.decode(data)

    @contextlib.contextmanager
    def _finder(self) -> Iterator[FaceFinder | None]:
        """Borrow a face finder, of which each serves one thread at a time."""
        finder = self._finders.get()
        try:
            yield finder
        finally:
            self._finders.put(finder)


def _too_slow(ref: ImageRef, deadline: Deadline) -> Failure:
    """Return why an image was given up whose time was over."""
    seconds, stage = deadline.seconds, deadline.stage
    _LOG.warning("%s: given up, after %g seconds, at stage %s", ref.key, seconds, stage)
    message = (
        f"took longer than {seconds:g} seconds; raise `max_seconds_per_image` if the "
        "storage or the machine is slow"
    )
    return failure(ref, ImageError(stage, "time-limit", message))


def embedding_result(
    ref: ImageRef, image: LoadedImage, vector: Vector | ImageError
) -> EmbeddingRow | Failure:
    """Return what to store for an image, or a face of it, after inference."""
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
        hash=image.hash,
    )


def failure(ref: ImageRef, error: ImageError) -> Failure:
    """Return the row to store for an image that could not be embedded.

    Known rows of an image are kept unless its content is at fault, or it was missing already when
    it was listed.
    """
    found = Failure(ref.key, error.stage, error.reason, str(error), ref.version)
    is_gone = error.reason == "not-found" and not ref.version
    return replace(found, has_rows=ref.known and not found.of_content and not is_gone)


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


def embed_all(refs: Iterable[ImageRef], embedder: Embedder) -> Iterator[tuple[int, Result]]:
    """Yield the results of images in their order, each with the number of its image, from 0."""
    stream: BatchedStream[int] = BatchedStream(embedder, DEFAULT_BATCH_SIZE)
    for number, ref in enumerate(refs):
        yield from stream.add(ref, number)
    yield from stream.finish()


def _each_result(
    batches: Iterable[tuple[list[_Context], list[list[Result]]]],
) -> Iterator[tuple[_Context, Result]]:
    for contexts, results in batches:
        for context, of_image in zip(contexts, results, strict=True):
            for result in of_image:
                yield context, result
