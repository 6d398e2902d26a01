"""The model bundle: one file with everything that determines the numbers of a feature ID.

A ``.fidmodel`` file is a zip of three stored members with fixed dates, written deterministically:

- ``bundle.json``: format version, name, architecture, dimension, digest, provenance, license,
  preprocessing, and size and SHA-256 of the other two members; unknown fields are ignored, so what
  changes the numbers comes with a new format version or a new revision of the preprocessing;
- ``model.tflite``: the network for LiteRT, on CPUs;
- ``model.keras``: the same network for TensorFlow, on GPUs.

The zip's comment, its last 71 bytes, is ``sha256:`` and the SHA-256 of everything before the
digits, so any flipped bit is found before anything is interpreted.  Later formats keep this ending.

The **digest** of a model is its identity (:func:`model_digest`).  It covers architecture, weights
and preprocessing, not the files, since another version of TensorFlow writes other bytes for the
same network.  It identifies a model; it does not authenticate who made it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError, NewerVersionError
from featureid.models.archive import read_stored_zip, write_stored_zip
from featureid.models.keras_archive import read_keras_archive
from featureid.models.preprocessing import Preprocessing
from featureid.stored_json import Size, canonical_json, convert_json, decode_json, refuse_newer

BUNDLE_SUFFIX = ".fidmodel"
BUNDLE_FORMAT = 1

_DESCRIPTION = "bundle.json"
_LITERT = "model.tflite"
_KERAS = "model.keras"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_DIGITS = 64
_SEAL_PREFIX = b"sha256:"
_TFLITE_MAGIC = b"TFL3"  # the file identifier of the FlatBuffers schema, at byte 4
_MAX_DIMENSION = 65536


@dataclass(frozen=True)
class ModelBundle:
    """A model that can be run.

    Attributes:
        name: name of the model.
        architecture: kind of network, with a revision.
        dimension: length of its vectors.
        preprocessing: how an image becomes the network's input.
        digest: its identity, from :func:`model_digest`.
        provenance: origin of the weights.
        license: license of the weights, as an SPDX expression if there is one.
        litert: the network for LiteRT, with one input (1, height, width, 3) float32 and at least
            an output ``embedding`` (1, dimension) float32, not normalized.
        keras: the same network as a ``.keras`` file, with the same output names.

    Raises:
        BundleError: a field is out of range.
    """

    name: str
    architecture: str
    dimension: Size
    preprocessing: Preprocessing
    digest: str
    provenance: str
    license: str
    litert: bytes = field(repr=False)
    keras: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("name", "architecture", "provenance", "license"):
            value = getattr(self, name)
            if not value.strip() or not value.isprintable():
                raise BundleError(f"{name} must be one line of text, got {value!r}")
        if not 1 <= self.dimension <= _MAX_DIMENSION:
            raise BundleError(f"dimension must be from 1 to {_MAX_DIMENSION}, got {self.dimension}")
        if not _DIGEST.fullmatch(self.digest):
            raise BundleError(f"digest must be sha256: and 64 hex digits, got {self.digest!r}")


def bundle_file_name(name: str, digest: str) -> str:
    """Return the file name of a model, for example ``image-2a2ee93c3abf.fidmodel``."""
    safe = re.sub(r"[^\w.-]", "_", name)
    return f"{safe}-{digest.removeprefix('sha256:')[:12]}{BUNDLE_SUFFIX}"


def model_digest(
    architecture: str,
    weights: Mapping[str, npt.NDArray[np.float32]],
    preprocessing: Preprocessing,
) -> str:
    """Return the identity of a model, the same on every machine.

    It is the SHA-256 of a line of canonical JSON (architecture, preprocessing digest, and name and
    shape of every weight, sorted by name), followed by the weights in that order as little-endian
    float32.

    Args:
        architecture: name and revision of the network.
        weights: name to array, float32 in either byte order.
        preprocessing: how an image becomes the network's input.

    Raises:
        BundleError: a weight is not float32.
    """
    names = sorted(weights)
    for name in names:
        if weights[name].dtype.newbyteorder("=") != np.float32:
            raise BundleError(f"weight {name} is {weights[name].dtype}, not float32")
    header = {
        "architecture": architecture,
        "preprocessing": preprocessing.digest,
        "weights": [[name, list(weights[name].shape)] for name in names],
    }
    digest = hashlib.sha256(canonical_json(header) + b"\n")
    for name in names:
        digest.update(weights[name].astype("<f4").tobytes())
    return "sha256:" + digest.hexdigest()


def write_bundle(bundle: ModelBundle) -> bytes:
    """Return the bytes of a bundle file; the same bundle gives the same bytes.

    Raises:
        BundleError: :func:`read_bundle` would refuse the bundle.
    """
    files = {_LITERT: bundle.litert, _KERAS: bundle.keras}
    _check_files(files)
    description = _Description(
        format=BUNDLE_FORMAT,
        name=bundle.name,
        architecture=bundle.architecture,
        dimension=bundle.dimension,
        digest=bundle.digest,
        provenance=bundle.provenance,
        license=bundle.license,
        preprocessing=bundle.preprocessing,
        members={name: _member(data) for name, data in files.items()},
    )
    fields = msgspec.to_builtins(description)
    fields["preprocessing"] = bundle.preprocessing.to_json()
    members = {_DESCRIPTION: canonical_json(fields), **files}
    data = write_stored_zip(members, _SEAL_PREFIX + b"0" * _HEX_DIGITS)[:-_HEX_DIGITS]
    return data + hashlib.sha256(data).hexdigest().encode()


def read_bundle(data: bytes, source: str) -> ModelBundle:
    """Return the bundle in ``data``.

    Args:
        data: the whole file.
        source: name of the file, for error messages.

    Raises:
        BundleError: the file is damaged, truncated, of a newer format, or unsafe.
    """
    try:
        return _read_bundle(data)
    except (BundleError, NewerVersionError) as error:
        raise BundleError(f"model bundle {source}: {error}") from error
    except ValueError as error:
        raise BundleError(f"model bundle {source}: {_DESCRIPTION}: {error}") from error


def load_bundle(path: str | os.PathLike[str]) -> ModelBundle:
    """Return the bundle in the file ``path``.

    Raises:
        BundleError: the file cannot be read, or :func:`read_bundle` refuses it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        cause = error.strerror or str(error)
        raise BundleError(f"model bundle {os.fspath(path)}: cannot be read: {cause}") from error
    return read_bundle(data, os.fspath(path))


def _read_bundle(data: bytes) -> ModelBundle:
    _check_seal(data)
    members = read_stored_zip(data, (_DESCRIPTION, _LITERT, _KERAS))
    fields = decode_json(members.pop(_DESCRIPTION), dict[str, Any])
    refuse_newer(fields.get("format"), BUNDLE_FORMAT)
    description = convert_json(fields, _Description)
    if description.members != {name: _member(file) for name, file in members.items()}:
        raise BundleError("a member's size or checksum differs from bundle.json")
    _check_files(members)
    return ModelBundle(
        name=description.name,
        architecture=description.architecture,
        dimension=description.dimension,
        preprocessing=description.preprocessing,
        digest=description.digest,
        provenance=description.provenance,
        license=description.license,
        litert=members[_LITERT],
        keras=members[_KERAS],
    )


class _Member(msgspec.Struct, frozen=True):
    """What bundle.json says of another member."""

    sha256: str
    size: Size


class _Description(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of bundle.json."""

    format: int
    name: str
    architecture: str
    dimension: Size
    digest: str
    provenance: str
    license: str
    preprocessing: Preprocessing
    members: dict[str, _Member]


def _check_seal(data: bytes) -> None:
    body, seal = data[:-_HEX_DIGITS], data[-_HEX_DIGITS:]
    if not body.startswith(b"PK") or not body.endswith(_SEAL_PREFIX):
        raise BundleError("not a model bundle, or truncated; copy it again")
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise BundleError("damaged: the checksum differs; copy it again")


def _check_files(files: Mapping[str, bytes]) -> None:
    if files[_LITERT][4:8] != _TFLITE_MAGIC:
        raise BundleError(f"{_LITERT} is not a LiteRT model")
    read_keras_archive(files[_KERAS])


def _member(data: bytes) -> _Member:
    return _Member(hashlib.sha256(data).hexdigest(), len(data))
