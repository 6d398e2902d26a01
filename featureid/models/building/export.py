"""Turn a Keras model into a bundle, which needs TensorFlow and takes seconds to minutes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.archive import write_stored_zip
from featureid.models.backends.litert import LiteRTBackend
from featureid.models.backends.tensorflow import TensorFlowBackend, import_tensorflow
from featureid.models.bundle import ModelBundle, model_digest
from featureid.models.keras_archive import read_keras_archive
from featureid.models.preprocessing import Preprocessing

_TOLERANCE = 1e-4
"""Largest difference between LiteRT and Keras, relative to the largest value, due to rounding."""

_CHECK_IMAGES = 4


def export_bundle(
    model: Any,
    *,
    name: str,
    architecture: str,
    preprocessing: Preprocessing,
    provenance: str,
    license: str,
) -> ModelBundle:
    """Return the bundle of a Keras model, checked to give the same numbers in both backends.

    Args:
        model: a functional ``keras.Model`` from scaled pixels (n, height, width, 3) to a dictionary
            of outputs (n, …), including ``embedding`` (n, dimension).  The names of its layers are
            part of the digest.
        name: name of the model.
        architecture: kind of network, with a revision.
        preprocessing: how an image becomes the network's input.
        provenance: origin of the weights.
        license: license of the weights.

    Raises:
        ModelError: TensorFlow is not installed, or the backends disagree.
        BundleError: the model uses layers that are not allowed in a bundle.
    """
    bundle = ModelBundle(
        name=name,
        architecture=architecture,
        dimension=int(model.output["embedding"].shape[-1]),
        preprocessing=preprocessing,
        digest=model_digest(architecture, weights_of(model), preprocessing),
        provenance=provenance,
        license=license,
        litert=_to_litert(model),
        keras=_to_keras_archive(model),
    )
    for output in model.output:
        _check_agreement(bundle, output)
    return bundle


def weights_of(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Return ``layer/variable`` to float32 array for every weight of a Keras model."""
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def assign_weights(model: Any, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Set every weight of a Keras model.

    Args:
        model: the ``keras.Model``.
        weights: name, as in :func:`weights_of`, to float32 array.

    Raises:
        ModelError: names or shapes differ from those of the model.
    """
    variables = _variables(model)
    wanted = {name: tuple(variable.shape) for name, variable in variables.items()}
    given = {name: array.shape for name, array in weights.items()}
    if wanted != given:
        odd = sorted(dict(wanted.items() ^ given.items()))
        raise ModelError(f"the weights do not fit the network; they differ in {', '.join(odd[:5])}")
    for name, variable in variables.items():
        variable.assign(weights[name])


def _variables(model: Any) -> dict[str, Any]:
    pairs = [(f"{layer.name}/{v.name}", v) for layer in model.layers for v in layer.weights]
    variables = dict(pairs)
    if len(variables) != len(pairs):
        raise ModelError(
            "two weights of the network have the same name; nested models cannot be used"
        )
    return variables


def _to_litert(model: Any) -> bytes:
    tf = import_tensorflow("models cannot be converted")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints hundreds of lines
        converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    return bytes(converted)


def _to_keras_archive(model: Any) -> bytes:
    """Return the ``.keras`` file of a model, the same bytes for the same model.

    Keras writes the time and memory addresses into the file; here they are replaced.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        members = read_keras_archive(path.read_bytes())
    metadata = json.loads(members["metadata.json"])
    metadata["date_saved"] = "1980-01-01@00:00:00"
    members["metadata.json"] = json.dumps(metadata).encode()
    numbers: dict[bytes, int] = {}
    members["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda address: b"%d" % numbers.setdefault(address[0], len(numbers)),
        members["config.json"],
    )
    return write_stored_zip(members)


def _check_agreement(bundle: ModelBundle, output: str) -> None:
    shape = (_CHECK_IMAGES, bundle.preprocessing.height, bundle.preprocessing.width, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    litert = LiteRTBackend(bundle, output).embed(images)
    reference = TensorFlowBackend(bundle, output).embed(images)
    difference = float(np.abs(litert - reference).max() / np.abs(reference).max())
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"the LiteRT conversion of model {bundle.name!r} differs from Keras by "
            f"{difference:.1e} of the largest {output} value, more than {_TOLERANCE:.0e}; "
            "try another version of tensorflow"
        )
