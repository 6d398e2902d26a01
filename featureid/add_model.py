"""Make a model bundle out of a network that somebody else has trained and exported."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, ModelError, UsageError
from featureid.face_crops import finder_for
from featureid.inputs import ImageRef, InputSource, list_source
from featureid.model_input import load_image
from featureid.models import ModelBundle, Preprocessing
from featureid.models.building.check import TRIAL_IMAGES
from featureid.models.building.face_template import face_crop
from featureid.models.building.keras_conversion import convert_keras
from featureid.models.building.preprocess_config import PixelOptions, read_preprocess_config
from featureid.models.building.quantization import MOST_IMAGES, Likeness, quantize
from featureid.models.building.reductions import (
    check_dimensions,
    principal_components,
    projecting,
)
from featureid.models.building.sandbox import Limits
from featureid.models.building.textures import textured_images
from featureid.models.building.trial import (
    Probe,
    Probed,
    Tried,
    features_of,
    limits_for,
    probe_network,
    with_safe_batch,
)
from featureid.models.bundle import Network, network_digest, with_own_digest
from featureid.models.features import Pooling, Reduction
from featureid.models.folder import check_name
from featureid.models.preprocessing import Layout
from featureid.parallel import map_in_order
from featureid.regular_files import read_regular

Reducing = Literal["pca", "project"]
Pixels = npt.NDArray[np.uint8]

_KINDS = {".onnx": "an ONNX", ".tflite": "a LiteRT", ".keras": "a Keras"}
_MAX_FILE = (1 << 31) - 1
_MAX_SAMPLES = 2000
_CHUNK_BYTES = 256 << 20


@dataclass(frozen=True)
class AddOptions:
    """What is said of a network that is to become a model.

    Attributes:
        path: the ``.onnx``, ``.tflite`` or ``.keras`` file.
        name: of the model.
        license: of its weights.
        provenance: where they come from; the name and digest of the file are added.
        pixels: how images are prepared; where it says nothing, ``preprocess`` does.
        preprocess: a file that says how images are prepared; "" for none.
        layout: of the network's input; None to find out.
        embedding: name of the output with the features; None for the only one.
        pool: how tokens become one vector.
        dimension: length of the vectors; None for the network's own.
        reduce: how to get there, if it is another: ``pca`` or ``project``.
        quantize: whether an ONNX network shall compute with 8-bit integers.
        samples: folder, glob or file of images to try the model on, and to compute ``pca`` and
            the ranges of ``quantize`` from; "" for made-up images.
        face: template of a model of faces, see
            :func:`featureid.models.building.face_template.face_crop`; "" for whole images.
        time_limit: seconds that the trial may take; None for the default.
        memory_limit: bytes of memory that it may take; None for a multiple of the file's size.

    Raises:
        UsageError: the options contradict each other, or one cannot be used.
    """

    path: str
    name: str
    license: str = "not stated"
    provenance: str = ""
    pixels: PixelOptions = field(default_factory=PixelOptions)
    preprocess: str = ""
    layout: Layout | None = None
    embedding: str | None = None
    pool: Pooling | None = None
    dimension: int | None = None
    reduce: Reducing | None = None
    quantize: bool = False
    samples: str = ""
    face: str = ""
    time_limit: float | None = None
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if Path(self.path).suffix.lower() not in _KINDS:
            raise UsageError(
                f"{self.path}: a model is added from one of {', '.join(_KINDS)}; a bundle is a "
                "model already: name its file with `model`"
            )
        if (self.dimension is None) != (self.reduce is None):
            raise UsageError(
                "`dimension` and `reduce` belong together: the length of the vectors, and how to "
                f"get there ({' or '.join(get_args(Reducing))})"
            )
        if self.reduce == "pca" and not self.samples:
            raise UsageError("`reduce='pca'` is computed from images; give some with `samples`")
        if self.quantize and not self.samples:
            raise UsageError("`quantize` measures ranges in images; give some with `samples`")
        if self.quantize and not self.path.lower().endswith(".onnx"):
            raise UsageError(
                f"{self.path}: `quantize` is for ONNX files; others are quantized where they are "
                "made"
            )
        for name, value in (("time_limit", self.time_limit), ("memory_limit", self.memory_limit)):
            if value is not None and not value > 0:
                raise UsageError(f"`{name}` is {value}; it must be positive")


@dataclass(frozen=True)
class Added:
    """A model that was made.

    Attributes:
        bundle: the model.
        tried: how it did on a few images.
        likeness: how near it comes to the network that was quantized; None for one that was not.
    """

    bundle: ModelBundle
    tried: Tried
    likeness: Likeness | None


def add_model(options: AddOptions) -> Added:
    """Return the model of a network.

    The network is checked and run in child processes only.

    Raises:
        UsageError: an option is missing or does not fit the network, or ``samples`` has no image.
        ModelError: the network cannot be used; the message names the file and says why.
    """
    try:
        return _add(options)
    except (UsageError, ModelError) as error:
        raise type(error)(f"{options.path}: {error}") from error


def _add(options: AddOptions) -> Added:
    source = _read(options.path)
    pixels = options.pixels
    if options.preprocess:
        pixels = pixels.over(read_preprocess_config(Path(options.preprocess)))
    limits = limits_for(len(source), options.time_limit, options.memory_limit)
    file, data = _network(options, source, pixels.size)
    # A converted network has the one output that was asked for.
    output = None if options.path.lower().endswith(".keras") else options.embedding
    probe = Probe(file=file, output=output, layout=options.layout, size=pixels.size)
    probed = probe_network(data, probe, limits)
    pooling = options.pool or "none"
    features = _features(probed, options.pool)
    if options.dimension is not None:
        check_dimensions(features, options.dimension)
    crop = face_crop(options.face, probed.size) if options.face else None
    preprocessing = pixels.preprocessing(probed.size, probed.input.dtype, crop)
    network = Network(file, data, probed.input, probed.output)
    bundle = ModelBundle(
        name=options.name,
        architecture=f"{_KINDS[Path(options.path).suffix.lower()].split()[1]} network",
        digest=network_digest(network, pooling, None, preprocessing),
        native_dimension=features,
        dimension=features,
        preprocessing=preprocessing,
        network=network,
        provenance=_provenance(options, source),
        license=options.license,
        pooling=pooling,
        statistics={} if probed.parameters is None else {"parameters": probed.parameters},
    )
    samples = _Samples(options.samples, preprocessing) if options.samples else None
    images = _trial_images(samples, preprocessing)
    bundle, tried = with_safe_batch(bundle, images, limits)
    likeness = None
    if options.quantize and samples:
        bundle, likeness = quantize(bundle, np.stack(samples.first(MOST_IMAGES)), limits)
        bundle, tried = with_safe_batch(bundle, images, limits)
    reduction = _reduction(options, bundle, samples, limits)
    dimension = reduction.matrix.shape[1] if reduction else features
    bundle = with_own_digest(replace(bundle, reduction=reduction, dimension=dimension))
    return Added(bundle, tried, likeness)


def _read(path: str) -> bytes:
    try:
        data = read_regular(path, _MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}") from error
    if len(data) > _MAX_FILE:
        raise ModelError(f"it has more than {_MAX_FILE} bytes, more than a network may have")
    if not data:
        raise ModelError("it is empty")
    return data


def _network(
    options: AddOptions, source: bytes, size: tuple[int, int] | None
) -> tuple[Literal["model.onnx", "model.tflite"], bytes]:
    suffix = Path(options.path).suffix.lower()
    if suffix == ".keras":
        limit = options.time_limit, options.memory_limit
        return "model.tflite", convert_keras(source, options.embedding, size, *limit)
    return ("model.onnx" if suffix == ".onnx" else "model.tflite"), source


def _features(probed: Probed, pool: Pooling | None) -> int:
    """Return the length of a vector, if the output can be pooled so."""
    shape = tuple(probed.shape)
    text = f"its output {probed.output!r} has the shape (n, {', '.join(map(str, shape))})"
    if len(shape) == 2 and 1 not in shape:
        if pool in ("cls", "mean"):
            return shape[1]
        raise UsageError(
            f"{text}: say how the {shape[0]} tokens of {shape[1]} numbers become one vector with "
            "`pool`: cls (the first) or mean"
        )
    vectors = [length for length in shape if length != 1] or [1]
    if not shape or len(vectors) != 1:
        raise UsageError(
            f"{text}, which is neither a vector nor tokens; export the network with its pooling, "
            "or name another output with `embedding`"
        )
    if pool not in (None, "none"):
        raise UsageError(f"{text}: there is nothing to pool; leave out `pool`")
    return vectors[0]


def _provenance(options: AddOptions, source: bytes) -> str:
    digest = hashlib.sha256(source).hexdigest()
    origin = f"{Path(options.path).name} (sha256 {digest})"
    return f"{options.provenance}, from {origin}" if options.provenance else origin


class _Samples:
    """The images that a user gives to try a model on, prepared for it."""

    def __init__(self, place: str, preprocessing: Preprocessing) -> None:
        listed = list_source(InputSource(place, strip_prefix=place))
        refs = [item for item in listed if isinstance(item, ImageRef)]
        if not refs:
            raise UsageError(f"`samples` is {place!r}, where no image was found")
        # Any of them, and always the same, wherever their folder is.
        refs.sort(key=lambda ref: hashlib.sha256(ref.key.encode()).digest())
        self._refs = refs[:_MAX_SAMPLES]
        self._place = place
        self._preprocessing = preprocessing

    def first(self, count: int) -> list[Pixels]:
        """Return the first different ones."""
        found: dict[bytes, Pixels] = {}
        for pixels in self._load():
            found.setdefault(pixels.tobytes(), pixels)
            if len(found) == count:
                break
        return [*found.values()]

    def chunks(self) -> Iterator[Pixels]:
        """Yield all of them, (n, height, width, 3), some at a time."""
        size = max(1, _CHUNK_BYTES // (self._preprocessing.height * self._preprocessing.width * 3))
        images = self._load()
        while some := list(itertools.islice(images, size)):
            yield np.stack(some)

    def _load(self) -> Iterator[Pixels]:
        """Yield the pixels of every image, or face, that can be decoded."""
        finder = finder_for(self._preprocessing, None)
        found = False
        threads = 1 if finder else 0  # a finder is for one thread at a time

        def load(ref: ImageRef) -> Sequence[Pixels]:
            try:
                return [
                    one.pixels for one in load_image(ref.uri, self._preprocessing, None, finder)
                ]
            except ImageError:
                return ()

        for _, images in map_in_order(load, self._refs, threads):
            for pixels in images:
                found = True
                yield pixels
        if not found:
            raise UsageError(f"`samples` is {self._place!r}, where no image can be used")


def _trial_images(samples: _Samples | None, preprocessing: Preprocessing) -> Pixels:
    made_up = textured_images(TRIAL_IMAGES, preprocessing.height, preprocessing.width)
    if samples is None:
        return made_up
    real = samples.first(TRIAL_IMAGES)
    return np.stack([*real, *made_up[len(real) :]])


def _reduction(
    options: AddOptions, bundle: ModelBundle, samples: _Samples | None, limits: Limits
) -> Reduction | None:
    if options.dimension is None:
        return None
    if options.reduce == "project" or samples is None:
        return projecting(bundle.native_dimension, options.dimension)
    features = [features_of(bundle, images, limits) for images in samples.chunks()]
    return principal_components(np.concatenate(features), options.dimension)
