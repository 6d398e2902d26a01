"""Quantize an ONNX network to 8-bit integers, in a child process, by ONNX Runtime's own tool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError, UsageError
from featureid.models.backends.base import as_input
from featureid.models.building.sandbox import Limits, answer, run_child, work_folder
from featureid.models.building.trial import (
    BUNDLE,
    IMAGES,
    NETWORK,
    Written,
    features_of,
    time_for,
    write_inputs,
)
from featureid.models.bundle import ModelBundle, load_bundle, with_own_digest

#: Images that are used at most; there must be :data:`FEWEST_IMAGES`.
MOST_IMAGES = 240
FEWEST_IMAGES = 20
_MODULE = "featureid.models.building.quantization"
_SOURCE = "float.onnx"


@dataclass(frozen=True)
class Likeness:
    """How near a quantized network comes to what it was made from.

    Attributes:
        images: number of images that both were run on.
        median: of the cosines between both vectors of an image.
        lowest: of these cosines.
    """

    images: int
    median: float
    lowest: float


class _Quantization(msgspec.Struct, frozen=True):
    """The task to quantize the network in a bundle's folder."""


def quantize(
    bundle: ModelBundle, images: npt.NDArray[np.uint8], limits: Limits
) -> tuple[ModelBundle, Likeness]:
    """Return a model whose ONNX network computes with 8-bit integers.

    Every other image gives the ranges of values from which integers are scaled; the others show
    how much is lost.

    Args:
        bundle: the model, without a reduction.
        images: uint8 (n, height, width, 3), all different.
        limits: of the child processes, which are given more time for many images.

    Raises:
        UsageError: there are too few images.
        ModelError: the network cannot be quantized.
    """
    if len(images) < FEWEST_IMAGES:
        raise UsageError(
            f"`quantize` needs {FEWEST_IMAGES} different images (`samples`), and better "
            f"{MOST_IMAGES}; there are {len(images)}"
        )
    ranges, others = images[::2], images[1::2]
    with work_folder() as folder:
        write_inputs(folder, bundle, ranges)
        run_child(_MODULE, folder, _Quantization(), Written, time_for(limits, len(ranges)))
        data = (folder / NETWORK).read_bytes()
    architecture = f"{bundle.architecture}, 8-bit integers"
    network = replace(bundle.network, data=data)
    quantized = with_own_digest(replace(bundle, architecture=architecture, network=network))
    return quantized, likeness(
        features_of(bundle, others, limits), features_of(quantized, others, limits)
    )


def likeness(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> Likeness:
    """Return how near vectors (n, d) are to others; one without length is near to none."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return Likeness(len(a), float(np.median(cosines)), float(cosines.min()))


class _Batches:
    """The images as batches of a network, as ONNX Runtime's `CalibrationDataReader`."""

    def __init__(self, bundle: ModelBundle, images: npt.NDArray[np.uint8]) -> None:
        self._batches = self._all(bundle, images)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next input by name, or None after the last one."""
        return next(self._batches, None)

    @staticmethod
    def _all(bundle: ModelBundle, images: npt.NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
        rows = bundle.network.input.batch or 1
        for start in range(0, len(images), rows):
            some = images[np.arange(start, start + rows) % len(images)]
            yield {bundle.network.input.name: as_input(bundle, some)}


def _quantize(folder: Path, _: _Quantization) -> Written:
    from onnxruntime import quantization

    bundle = load_bundle(folder / BUNDLE)
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    (folder / _SOURCE).write_bytes(bundle.network.data)
    try:
        quantization.quantize_static(
            folder / _SOURCE,
            folder / NETWORK,
            _Batches(bundle, images),
            quant_format=quantization.QuantFormat.QDQ,  # operators of the ONNX standard
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            # x86 without VNNI would saturate, and give other numbers than other processors.
            reduce_range=True,
        )
    except Exception as error:  # it may raise anything
        text = " ".join(str(error).split())[:500]
        raise ModelError(f"it cannot be quantized: {type(error).__name__}: {text}") from error
    return Written()


if __name__ == "__main__":
    answer(_Quantization, _quantize)
