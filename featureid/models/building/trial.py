"""Try networks that others made, in a child process: what they take and return, and how well.

Everything that reads a network happens in the child: its structure is checked, then it is loaded
and run, as :mod:`featureid.models.building.trial_child` says.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.building.sandbox import Limits, run_child, work_folder
from featureid.models.bundle import ModelBundle, NetworkInput, with_own_digest, write_bundle
from featureid.models.preprocessing import Layout

_CHILD = "featureid.models.building.trial_child"
_SECONDS = 120.0
_SECONDS_PER_IMAGE = 5.0
_MEMORY_BASE, _MEMORY_PER_BYTE = 2 << 30, 6
#: Files in the folder of a child.
NETWORK, BUNDLE, IMAGES, FEATURES = "network", "model.fidmodel", "images.npy", "features.f32"


class Probe(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The question what a network takes and returns.

    Attributes:
        file: ``model.onnx`` or ``model.tflite``.
        output: name of the output that is asked for; None for the only one.
        layout: of the input; None to find out.
        size: (height, width) of the input; None if the network fixes it.
    """

    file: str
    output: str | None
    layout: Layout | None
    size: tuple[int, int] | None


class Probed(msgspec.Struct, frozen=True):
    """What a network takes and returns.

    Attributes:
        input: its input.
        size: height and width of that.
        output: name of the output.
        shape: shape of the output of one image, without the batch.
        parameters: number of its weights; None if that is not known.
    """

    input: NetworkInput
    size: tuple[int, int]
    output: str
    shape: tuple[int, ...]
    parameters: int | None


class Trial(msgspec.Struct, frozen=True, tag=True):
    """The task to run the images in a bundle's folder, and to compare and time the results."""


class Tried(msgspec.Struct, frozen=True):
    """How a model does on images.

    Attributes:
        images: number of images.
        finite: whether all numbers are finite, and no vector is zero.
        distinct: whether different images have different vectors.
        repeatable: whether a second run has the same bits.
        independent: whether an image has the same bits in a batch of one and of all of them.
        ms_alone: CPU milliseconds for an image, in batches of 1.
        ms_together: in batches of all of them.
        load_s: seconds to load the model.
        peak_mb: peak memory of the process.
        network_sha256: of a bundle with the digest of a known model, what its network computes, see
            :func:`featureid.models.building.onnx_structure.network_sha256`; otherwise None.
    """

    images: int
    finite: bool
    distinct: bool
    repeatable: bool
    independent: bool
    ms_alone: float
    ms_together: float
    load_s: float
    peak_mb: float
    network_sha256: str | None


class Features(msgspec.Struct, frozen=True, tag=True):
    """The task to write the features of the images in a bundle's folder, before a reduction."""


class Written(msgspec.Struct, frozen=True):
    """The answer that the result is written."""


def limits_for(size: int, seconds: float | None = None, memory_bytes: int | None = None) -> Limits:
    """Return the limits for a network of ``size`` bytes, as far as they are not given."""
    return Limits(
        _SECONDS if seconds is None else seconds,
        _MEMORY_BASE + _MEMORY_PER_BYTE * size if memory_bytes is None else memory_bytes,
    )


def time_for(limits: Limits, images: int) -> Limits:
    """Return limits with more time, for that many images."""
    return replace(limits, seconds=limits.seconds + _SECONDS_PER_IMAGE * images)


def probe_network(data: bytes, probe: Probe, limits: Limits) -> Probed:
    """Find out what a network takes and returns, by loading it and running an image.

    Raises:
        ModelError: it cannot be used as a model of images, or not without more being said.
    """
    with work_folder() as folder:
        (folder / NETWORK).write_bytes(data)
        return run_child(_CHILD, folder, probe, Probed, limits)


def try_model(bundle: ModelBundle, images: npt.NDArray[np.uint8], limits: Limits) -> Tried:
    """Run a model on some images, and refuse one whose vectors could not be used.

    Args:
        bundle: the model.
        images: uint8 (n, height, width, 3), at least 2, not all the same.
        limits: of the child process.

    Raises:
        ModelError: it cannot be run; or its vectors are not finite, or the same for all images, or
            change from run to run, or depend on the batch although the bundle says otherwise.
    """
    tried = _run_bundle(bundle, images, Trial(), Tried, limits)
    check_tried(tried)
    return tried


def check_tried(tried: Tried) -> None:
    """Raise ModelError if the vectors of a model could not be used."""
    if not tried.finite:
        raise ModelError(
            "its vectors have infinite or undefined numbers, or are zero; check how pixels are "
            "scaled (`mean`, `std`), and the export"
        )
    if not tried.distinct:
        raise ModelError(
            "its vectors are the same for all images; check how pixels are scaled (`mean`, `std`), "
            "and which output is taken"
        )
    if not tried.repeatable:
        raise ModelError(
            "its vectors change from run to run; export it for inference, without random operators"
        )


def with_safe_batch(
    bundle: ModelBundle, images: npt.NDArray[np.uint8], limits: Limits
) -> tuple[ModelBundle, Tried]:
    """Return a model that gives an image the same bits in any batch, and how it does.

    If that is not true of a network that takes any number of images, the result runs them one by
    one.

    Raises:
        ModelError: as :func:`try_model`, or the images of a fixed batch influence each other.
    """
    tried = try_model(bundle, images, limits)
    if tried.independent:
        return bundle, tried
    network = bundle.network
    if network.input.batch is not None:
        raise ModelError(
            f"an image's vector depends on the other images of its batch of {network.input.batch}; "
            "export the network for a batch of 1 or of any size"
        )
    network = replace(network, input=replace(network.input, batch=1))
    return with_own_digest(replace(bundle, network=network)), tried


def features_of(
    bundle: ModelBundle, images: npt.NDArray[np.uint8], limits: Limits
) -> npt.NDArray[np.float32]:
    """Return the features of images before the reduction, float32 (n, native dimension).

    Args:
        bundle: a model that :func:`try_model` has accepted.
        images: uint8 (n, height, width, 3).
        limits: of the child process, which is given more time for many images.
    """
    with work_folder() as folder:
        write_inputs(folder, bundle, images)
        run_child(_CHILD, folder, Features(), Written, time_for(limits, len(images)))
        features = np.fromfile(folder / FEATURES, "<f4").astype(np.float32)
    if features.size != len(images) * bundle.native_dimension:
        raise ModelError("its child process wrote features of another size")
    return features.reshape(len(images), bundle.native_dimension)


def _run_bundle(
    bundle: ModelBundle,
    images: npt.NDArray[np.uint8],
    work: Trial,
    result: type[Tried],
    limits: Limits,
) -> Tried:
    with work_folder() as folder:
        write_inputs(folder, bundle, images)
        return run_child(_CHILD, folder, work, result, limits)


def write_inputs(folder: Path, bundle: ModelBundle, images: npt.NDArray[np.uint8]) -> None:
    """Write what a child needs to run a model on images."""
    (folder / BUNDLE).write_bytes(write_bundle(bundle))
    np.save(folder / IMAGES, images, allow_pickle=False)
