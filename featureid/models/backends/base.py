"""What all backends share: how a model is run on images, whatever runs its network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.bundle import ModelBundle
from featureid.models.features import pool

Output = Literal["embedding", "pooled"]


class Backend(ABC):
    """A loaded model.

    A vector depends on its image alone, not on the number or order of the images in a call: a
    backend runs a fixed number of images at a time, filled up with black ones, or any number of
    them if the bundle declares that this changes nothing.

    Attributes:
        file: the network file of a bundle that the backend runs.

    Args:
        bundle: the model.
        output: which vectors :meth:`embed` returns: ``embedding``, or ``pooled``, those of the
            network before the reduction.

    Raises:
        ModelError: the runtime is not installed, or the network cannot be used.
    """

    file: ClassVar[str]

    def __init__(self, bundle: ModelBundle, output: Output = "embedding") -> None:
        """Load the model."""
        self._bundle = bundle
        self._reduction = bundle.reduction if output == "embedding" else None
        self._rows, self._filled = self._load(bundle)

    @classmethod
    def open_for(cls, bundle: ModelBundle, threads: int) -> list[Backend]:
        """Return the objects with which that many threads use the model best, each taking one.

        Here these are as many objects, each for one thread at a time.
        """
        return [cls(bundle) for _ in range(threads)]

    def embed(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors of a batch of images.

        Args:
            batch: uint8 (n, height, width, 3), RGB, with the height and width of the model's
                preprocessing.

        Returns:
            float32 (n, dimension), or (n, native dimension) of pooled ones, not normalized.

        Raises:
            ModelError: the batch has another shape or dtype.
        """
        self._check_batch(batch)
        features = np.empty((len(batch), self._bundle.native_dimension), np.float32)
        for start in range(0, len(batch), self._rows):
            rows = slice(start, start + self._rows)
            features[rows] = self._features(batch[rows])
        return features if self._reduction is None else self._reduction.apply(features)

    def embed_at_once(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the same in one call of the network, if it takes any number of images.

        It shows whether the images of a call influence each other, which :meth:`embed` may hide by
        running them one by one.
        """
        if self._bundle.network.input.batch is not None or self._filled:
            return self.embed(batch)
        self._check_batch(batch)
        features = self._features(batch)
        return features if self._reduction is None else self._reduction.apply(features)

    def _features(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        outputs = self._run(self._as_input(images))
        bundle = self._bundle
        return pool(outputs, bundle.pooling, bundle.native_dimension)[: len(images)]

    @abstractmethod
    def _load(self, bundle: ModelBundle) -> tuple[int, bool]:
        """Load the network; return the images of a call, and whether fewer must be filled up."""

    @abstractmethod
    def _run(self, inputs: npt.NDArray[np.float32 | np.uint8]) -> npt.NDArray[np.float32]:
        """Return the network's output (n, …) for its input."""

    def _as_input(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32 | np.uint8]:
        if self._filled and len(images) < self._rows:
            padding = ((0, self._rows - len(images)), (0, 0), (0, 0), (0, 0))
            images = np.pad(images, padding)
        return as_input(self._bundle, images)

    def _check_batch(self, batch: npt.NDArray[np.uint8]) -> None:
        wanted = (self._bundle.preprocessing.height, self._bundle.preprocessing.width, 3)
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != wanted:
            raise ModelError(
                f"model {self._bundle.name!r} takes uint8 images of shape (n, {wanted[0]}, "
                f"{wanted[1]}, 3), got {batch.dtype} of shape {batch.shape}"
            )


def as_input(
    bundle: ModelBundle, images: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32 | np.uint8]:
    """Return images (n, height, width, 3) as the input of a model's network."""
    source = bundle.network.input
    if source.dtype == "uint8":
        return bundle.preprocessing.arrange(images, source.layout)
    return bundle.preprocessing.scale(images, source.layout)


def check_declared(bundle: ModelBundle, what: str, found: object, wanted: object) -> None:
    """Raise ModelError unless the network is, in one point, as ``bundle`` declares it."""
    if found != wanted:
        raise ModelError(
            f"model {bundle.name!r} cannot be used: its {what} is {found}, but its bundle.json "
            f"declares {wanted}; build the bundle again"
        )


def check_shapes(
    bundle: ModelBundle, source: Sequence[int | None], target: Sequence[int | None]
) -> None:
    """Raise ModelError if a shape in the network contradicts what ``bundle`` declares.

    Args:
        bundle: the model.
        source: shape of the network's input, with None for a length that it leaves open.
        target: shape of its output, likewise.
    """
    size = (bundle.preprocessing.height, bundle.preprocessing.width)
    channels_first = bundle.network.input.layout == "nchw"
    wanted = (bundle.network.input.batch, *((3, *size) if channels_first else (*size, 3)))
    if len(source) != 4 or any(a not in (None, b) for a, b in zip(source, wanted, strict=True)):
        check_declared(bundle, "input's shape", tuple(source), wanted)
    features = target[1:] if bundle.pooling == "none" else target[2:]
    known = [length for length in features if length is not None]
    if len(known) == len(features):
        check_declared(bundle, "number of features", math.prod(known), bundle.native_dimension)
