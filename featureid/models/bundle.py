"""The model bundle: one file with everything that determines the numbers of a feature ID.

A ``.fidmodel`` file is a zip of stored members with fixed dates, written deterministically:

- ``bundle.json``: format version, name, architecture, dimensions, digest, provenance, license, the
  network's input and output, pooling, preprocessing, and size and SHA-256 of the other members;
  unknown fields are ignored, so what changes the numbers comes with a new format version or a new
  revision of the preprocessing;
- the network, ``model.onnx`` or ``model.tflite``;
- ``reduction.npy``, if there is one: the matrix that turns the network's features into the vector,
  and its offset.

The zip's comment, its last 71 bytes, is ``sha256:`` and the SHA-256 of everything before the
digits, so any flipped bit is found before anything is interpreted.  Later formats keep this ending.

The **digest** of a model is its identity.  It is :func:`network_digest`, which follows from what
the bundle holds, and one that states another is refused.  Only that of a known model does not
follow from its file: it is :func:`model_digest`, since another version of a library may write the
same network in other bytes, and :mod:`featureid.models.contents` says what a bundle that states it
must hold.  A digest identifies a model; it does not authenticate who made it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError, NewerVersionError
from featureid.models.archive import read_stored_zip, write_stored_zip
from featureid.models.contents import CONTENTS, digest_of_features
from featureid.models.features import Pooling, Reduction, read_reduction
from featureid.models.preprocessing import Layout, Preprocessing
from featureid.regular_files import read_regular
from featureid.stored_json import (
    PositiveSize,
    Size,
    canonical_json,
    convert_json,
    decode_json,
    refuse_newer,
)

BUNDLE_SUFFIX = ".fidmodel"
#: Ends the name of a model whose vectors are the features of another one, before its reduction.
POOLED = ":pooled"
BUNDLE_FORMAT = 2
ONNX = "model.onnx"
TFLITE = "model.tflite"

_DESCRIPTION = "bundle.json"
_REDUCTION = "reduction.npy"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_DIGITS = 64
_SEAL_PREFIX = b"sha256:"
_TFLITE_MAGIC = b"TFL3"  # the file identifier of the FlatBuffers schema, at byte 4
_MAX_DIMENSION = 65536
_MAX_BATCH = 1024

_Dimension = Annotated[int, msgspec.Meta(ge=1, le=_MAX_DIMENSION)]
_File = Literal["model.onnx", "model.tflite"]


@dataclass(frozen=True)
class NetworkInput:
    """The only input of a network.

    Attributes:
        name: its name in the network.
        layout: its axes, ``nchw`` or ``nhwc``.
        dtype: ``float32``: scaled pixels; ``uint8``: pixels from 0 to 255, unscaled.
        batch: how many images it takes at a time; None: any number, none of which changes a bit of
            another's vector.

    Raises:
        BundleError: a value is out of range.
    """

    name: str
    layout: Layout
    dtype: Literal["float32", "uint8"]
    batch: PositiveSize | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and not 1 <= self.batch <= _MAX_BATCH:
            raise BundleError(f"batch must be from 1 to {_MAX_BATCH}, got {self.batch}")


@dataclass(frozen=True)
class Network:
    """A network in the format of one runtime.

    Attributes:
        file: ``model.onnx`` or ``model.tflite``.
        data: the file.
        input: its input.
        output: name of the output that is taken.

    Raises:
        BundleError: ``data`` is not such a file.
    """

    file: _File
    data: bytes = field(repr=False)
    input: NetworkInput
    output: str

    def __post_init__(self) -> None:
        if self.file == TFLITE and self.data[4:8] != _TFLITE_MAGIC:
            raise BundleError(f"{TFLITE} is not a LiteRT model")
        if not self.data:
            raise BundleError(f"{self.file} is empty")


@dataclass(frozen=True)
class ModelBundle:
    """A model that can be run.

    Attributes:
        name: name of the model.
        architecture: kind of network, with a revision.
        digest: its identity: :func:`network_digest`, or :func:`model_digest` of a known model.
        native_dimension: length of the network's vectors, after pooling.
        dimension: length of the model's vectors: the native one, or that of the reduction.
        preprocessing: how an image becomes the network's input.
        network: the network.
        pooling: how its output becomes one vector per image.
        reduction: what is applied to that vector; None for nothing.
        provenance: origin of the weights.
        license: license of the weights, as an SPDX expression if there is one.
        statistics: numbers about the model, for people, such as its ``parameters``.

    Raises:
        BundleError: a field is out of range, or does not fit another.
    """

    name: str
    architecture: str
    digest: str
    native_dimension: int
    dimension: int
    preprocessing: Preprocessing
    network: Network
    provenance: str
    license: str
    pooling: Pooling = "none"
    reduction: Reduction | None = None
    statistics: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("name", "architecture", "provenance", "license"):
            value = getattr(self, name)
            if not value.strip() or not value.isprintable():
                raise BundleError(f"{name} must be one line of text, got {value!r}")
        for name in ("native_dimension", "dimension"):
            value = getattr(self, name)
            if not 1 <= value <= _MAX_DIMENSION:
                raise BundleError(f"{name} must be from 1 to {_MAX_DIMENSION}, got {value}")
        reduced = self.reduction.matrix.shape if self.reduction else (self.native_dimension,) * 2
        if reduced != (self.native_dimension, self.dimension):
            raise BundleError(
                f"dimension {self.dimension} does not follow from {self.native_dimension} native "
                f"dimensions and {f'a reduction of shape {reduced}' if self.reduction else 'none'}"
            )
        if not _DIGEST.fullmatch(self.digest):
            raise BundleError(f"digest must be sha256: and 64 hex digits, got {self.digest!r}")
        scales = any(self.preprocessing.mean) or {*self.preprocessing.std} != {1.0}
        if self.network.input.dtype == "uint8" and scales:
            raise BundleError("a network that takes uint8 scales by itself: mean 0, std 1")


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


def network_digest(
    network: Network,
    pooling: Pooling,
    reduction: Reduction | None,
    preprocessing: Preprocessing,
    network_sha256: str | None = None,
) -> str:
    """Return the identity of a model as it follows from everything that decides its numbers.

    It is the SHA-256 of canonical JSON that names the network's bytes, its input and output, and
    everything that happens before and after it.

    Args:
        network: the network.
        pooling: how its output becomes one vector per image.
        reduction: what is applied to that vector.
        preprocessing: how an image becomes its input.
        network_sha256: what stands for the network; None for the SHA-256 of its file.
    """
    described = {
        "network": network_sha256 or _Member.of(network.data).sha256,
        "input": msgspec.to_builtins(network.input),
        "output": network.output,
        "pooling": pooling,
        "reduction": _Member.of(reduction.to_npy()).sha256 if reduction else None,
        "preprocessing": preprocessing.digest,
    }
    if reduction is not None and reduction.unit:
        described["unit_features"] = True
    return "sha256:" + hashlib.sha256(canonical_json(described)).hexdigest()


def content_digest(bundle: ModelBundle, network_sha256: str | None = None) -> str:
    """Return :func:`network_digest` of what a bundle holds, whatever digest it states."""
    return network_digest(
        bundle.network, bundle.pooling, bundle.reduction, bundle.preprocessing, network_sha256
    )


def with_own_digest(bundle: ModelBundle) -> ModelBundle:
    """Return a bundle of which something was replaced, with the digest of what it holds now."""
    return replace(bundle, digest=content_digest(bundle))


def pooled(bundle: ModelBundle) -> ModelBundle:
    """Return the model whose vectors are a model's features, before its reduction.

    Raises:
        BundleError: the model has no reduction.
    """
    if bundle.reduction is None:
        raise BundleError(
            f"the model {bundle.name!r} has no reduction: its vectors are its network's features"
        )
    features = replace(
        bundle,
        name=f"{bundle.name}{POOLED}",
        dimension=bundle.native_dimension,
        reduction=None,
    )
    if bundle.digest in CONTENTS:
        return replace(features, digest=digest_of_features(bundle.digest))
    return with_own_digest(features)


def write_bundle(bundle: ModelBundle) -> bytes:
    """Return the bytes of a bundle file; the same bundle gives the same bytes."""
    network = bundle.network
    members: dict[str, bytes] = {network.file: network.data}
    if bundle.reduction is not None:
        members[_REDUCTION] = bundle.reduction.to_npy()
    description = _Description(
        format=BUNDLE_FORMAT,
        name=bundle.name,
        architecture=bundle.architecture,
        digest=bundle.digest,
        native_dimension=bundle.native_dimension,
        dimension=bundle.dimension,
        preprocessing=bundle.preprocessing,
        input=network.input,
        output=network.output,
        pooling=bundle.pooling,
        provenance=bundle.provenance,
        license=bundle.license,
        statistics=dict(bundle.statistics),
        unit_features=bundle.reduction is not None and bundle.reduction.unit,
        members={name: _Member.of(data) for name, data in members.items()},
    )
    fields = msgspec.to_builtins(description)
    fields["preprocessing"] = bundle.preprocessing.to_json()
    if not description.unit_features:
        del fields["unit_features"]
    stored = {_DESCRIPTION: canonical_json(fields), **members}
    data = write_stored_zip(stored, _SEAL_PREFIX + b"0" * _HEX_DIGITS)[:-_HEX_DIGITS]
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


def seal_of(data: bytes) -> str:
    """Return the SHA-256, in hex, that ends the file of a bundle and identifies it."""
    return data[-_HEX_DIGITS:].decode("ascii")


def load_bundle(path: str | os.PathLike[str]) -> ModelBundle:
    """Return the bundle in the file ``path``.

    Raises:
        BundleError: the file cannot be read, or :func:`read_bundle` refuses it.
    """
    return read_bundle(read_file(path), os.fspath(path))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a bundle file.

    Raises:
        BundleError: it cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise BundleError(
            f"model bundle {os.fspath(path)}: cannot be read: {error.strerror}"
        ) from error


def _read_bundle(data: bytes) -> ModelBundle:
    _check_seal(data)
    members = read_stored_zip(data)
    fields = decode_json(members.pop(_DESCRIPTION, b""), dict[str, Any])
    refuse_newer(fields.get("format"), BUNDLE_FORMAT)
    if fields["format"] < BUNDLE_FORMAT:
        raise BundleError(
            f"its format version is {fields['format']}, of a featureid before its first release; "
            "build the model again"
        )
    description = convert_json(fields, _Description)
    if description.members != {name: _Member.of(file) for name, file in members.items()}:
        raise BundleError("a member's size or checksum differs from bundle.json")
    reduction = members.pop(_REDUCTION, None)
    file = _network_file(members)
    bundle = ModelBundle(
        name=description.name,
        architecture=description.architecture,
        digest=description.digest,
        native_dimension=description.native_dimension,
        dimension=description.dimension,
        preprocessing=description.preprocessing,
        network=Network(file, members[file], description.input, description.output),
        pooling=description.pooling,
        reduction=None
        if reduction is None
        else read_reduction(
            reduction,
            description.native_dimension,
            description.dimension,
            description.unit_features,
        ),
        provenance=description.provenance,
        license=description.license,
        statistics=description.statistics,
    )
    if bundle.digest not in CONTENTS:  # of those, the network is compared when it is first tried
        found = content_digest(bundle, description.members[file].sha256)
        if found != bundle.digest:
            raise BundleError(other_contents(bundle, found))
    return bundle


def other_contents(bundle: ModelBundle, found: str) -> str:
    """Return what to say of a bundle that is not the model whose digest it states.

    Args:
        bundle: the bundle.
        found: the digest of what it holds.
    """
    return (
        f"it states the digest {bundle.digest}, but the digest of what it holds is {found}: its "
        "network, reduction or preprocessing is that of another model; take the file from where "
        "it was made"
    )


def _network_file(members: Mapping[str, bytes]) -> _File:
    if len(members) == 1:
        if ONNX in members:
            return "model.onnx"
        if TFLITE in members:
            return "model.tflite"
    raise BundleError(f"it must hold one network, {ONNX} or {TFLITE}, found {sorted(members)}")


class _Member(msgspec.Struct, frozen=True):
    """What bundle.json says of another member."""

    sha256: str
    size: Size

    @classmethod
    def of(cls, data: bytes) -> _Member:
        """Return what is to be said of a member."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


class _Description(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of bundle.json."""

    format: int
    name: str
    architecture: str
    digest: str
    native_dimension: _Dimension
    dimension: _Dimension
    preprocessing: Preprocessing
    input: NetworkInput
    output: str
    pooling: Pooling
    provenance: str
    license: str
    statistics: dict[str, Size] = msgspec.field(default_factory=dict)
    unit_features: bool = False
    members: dict[str, _Member]


def _check_seal(data: bytes) -> None:
    body, seal = data[:-_HEX_DIGITS], data[-_HEX_DIGITS:]
    if not body.startswith(b"PK") or not body.endswith(_SEAL_PREFIX):
        raise BundleError("not a model bundle, or truncated; copy it again")
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise BundleError("damaged: the checksum differs; copy it again")
