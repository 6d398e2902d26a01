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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, UsageError
from featureid.images import DecodeLimits, decode_image, resize_image
from featureid.inputs import ImageRef, read_image
from featureid.models import (
    Backend,
    BackendKind,
    ModelBundle,
    Preprocessing,
    open_backend,
    resolve_model,
)
from featureid.parallel import available_cpus
from featureid.storage.records import EmbeddingRow, Failure

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

DEFAULT_BATCH_SIZE = 8
# Batches queued or running for every thread: one at work, one waiting, so that no thread idles
# while results are handed on, and memory stays bounded by threads x 2 x batch size pictures.
_BATCHES_PER_THREAD = 2


@dataclass(frozen=True)
class EmbedSettings:
    """How to embed; what decides the numbers is in the model bundle, not here.

    Attributes:
        backend: ``litert`` (CPU) or ``tensorflow`` (GPU, or a CPU that shall use it).
        threads: pictures read and decoded at the same time; 0 means one a CPU core.
        batch_size: pictures in one call of the model.
        limits: the largest file that is read and the largest picture that is decoded.
    """

    backend: BackendKind = "litert"
    threads: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise UsageError(f"threads is {self.threads}; it must be 0 (all cores) or more")
        if self.batch_size < 1:
            raise UsageError(f"batch size is {self.batch_size}; it must be 1 or more")


@dataclass(frozen=True)
class LoadedImage:
    """A picture ready for the model, and what is to be remembered of its source.

    Attributes:
        pixels: (height, width, 3) uint8 RGB of the model's input size.
        sha256: digest of the file's bytes, 32 bytes.
        source_size: bytes of the file.
        width: of the upright original, in pixels.
        height: of the upright original, in pixels.
    """

    pixels: Pixels
    sha256: bytes
    source_size: int
    width: int
    height: int


def load_image(
    uri: str, preprocessing: Preprocessing, limits: DecodeLimits | None = None
) -> LoadedImage:
    """Read, decode and resize one picture.

    Raises:
        ImageError: the file cannot be read, or is no picture that can be decoded.
    """
    limits = limits or DecodeLimits()
    data = read_image(uri, limits.max_bytes)
    size = (preprocessing.height, preprocessing.width)
    image = decode_image(data, min_size=size, limits=limits)
    pixels = resize_image(image.pixels, *size)
    return LoadedImage(
        pixels, hashlib.sha256(data).digest(), len(data), width=image.width, height=image.height
    )


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
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="embed")

    def submit(self, refs: Sequence[ImageRef]) -> Future[list[EmbeddingRow | Failure]]:
        """Start to embed ``refs``; the result is one row or failure for each, in any order."""
        return self._pool.submit(self._embed, tuple(refs))

    def close(self) -> None:
        """Stop the threads; what is queued is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _embed(self, refs: tuple[ImageRef, ...]) -> list[EmbeddingRow | Failure]:
        results: list[EmbeddingRow | Failure] = []
        loaded: list[tuple[ImageRef, LoadedImage]] = []
        for ref in refs:
            try:
                image = load_image(ref.uri, self._preprocessing, self._settings.limits)
                loaded.append((ref, image))
            except ImageError as error:
                results.append(failure(ref, error))
        if loaded:
            vectors = self._infer(np.stack([image.pixels for _, image in loaded]))
            for (ref, image), vector in zip(loaded, vectors, strict=True):
                if isinstance(vector, ImageError):
                    results.append(failure(ref, vector))
                else:
                    results.append(embedding_row(ref, image, vector))
        return results

    def _infer(self, batch: Pixels) -> list[Vector | ImageError]:
        model = self._models.get()
        try:
            return list(infer_each(model.embed, batch))
        finally:
            self._models.put(model)


def embedding_row(ref: ImageRef, image: LoadedImage, vector: Vector) -> EmbeddingRow:
    """The row to store for an embedded image."""
    return EmbeddingRow(
        key=ref.key,
        vector=vector,
        sha256=image.sha256,
        source_size=image.source_size,
        source_version=ref.version,
        width=image.width,
        height=image.height,
    )


def failure(ref: ImageRef, error: ImageError) -> Failure:
    """The row to store for an image that could not be embedded."""
    return Failure(ref.key, error.stage, error.reason, str(error), ref.version)


class BatchedStream:
    """Feeds single references to an :class:`Embedder` in batches and hands results back.

    ``add`` returns whatever is done by then and waits only when enough work is queued to keep
    every thread busy; ``finish`` waits for the rest.
    """

    def __init__(self, embedder: Embedder, batch_size: int) -> None:
        self._embedder = embedder
        self._batch_size = batch_size
        self._waiting: list[ImageRef] = []
        self._running: deque[Future[list[EmbeddingRow | Failure]]] = deque()

    def add(self, ref: ImageRef) -> Iterator[EmbeddingRow | Failure]:
        """Take one more reference; yields the results that are ready to be handed on."""
        self._waiting.append(ref)
        if len(self._waiting) == self._batch_size:
            self._submit()
        while self._running and (
            self._running[0].done()
            or len(self._running) > _BATCHES_PER_THREAD * self._embedder.threads
        ):
            yield from self._running.popleft().result()

    def finish(self) -> Iterator[EmbeddingRow | Failure]:
        """Yield all results that are still due."""
        if self._waiting:
            self._submit()
        while self._running:
            yield from self._running.popleft().result()

    def _submit(self) -> None:
        self._running.append(self._embedder.submit(self._waiting))
        self._waiting = []


@functools.lru_cache(maxsize=4)
def _single_backend(model: str) -> tuple[ModelBundle, Backend, threading.Lock]:
    bundle = resolve_model(model)
    return bundle, open_backend(bundle, "litert"), threading.Lock()


def generate_feature_id(path: str | os.PathLike[str], model: str = "image") -> Vector:
    """The feature ID of one picture: the same numbers as a pipeline writes.

    Args:
        path: a local path, or a URI such as ``s3://bucket/a.jpg``.
        model: ``image``, or the path of a model bundle.

    Returns:
        (128,) float32, of unit length.

    Raises:
        ImageError: the file cannot be read or decoded; it says why.
        ModelError: the model cannot be found or built.
    """
    bundle, backend, lock = _single_backend(model)
    image = load_image(os.fspath(path), bundle.preprocessing)
    with lock:
        (vector,) = infer_each(backend.embed, image.pixels[np.newaxis])
    if isinstance(vector, ImageError):
        raise vector
    return vector
