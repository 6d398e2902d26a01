"""Models in the output folder: how one reaches workers that have no cache and no weights.

The launcher puts the bundle there once; workers load it by its place, over the same file system
that they write their shards to, and the model of a snapshot so stays beside it.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from featureid.errors import BundleError, UsageError
from featureid.models import (
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    known_models,
    read_bundle,
    resolve_model,
    write_bundle,
)
from featureid.models.building.check import ensure_checked
from featureid.models.bundle import POOLED, content_digest
from featureid.models.folder import added_models
from featureid.storage import files
from featureid.storage.records import ModelInfo
from featureid.storage.snapshot import MODELS

# Bundles that somebody in this process holds, by digest: a local run needs no second copy.
_SHARED: WeakValueDictionary[str, ModelBundle] = WeakValueDictionary()


def keep_model(output: str, bundle: ModelBundle) -> str:
    """Put a bundle into ``output``, where that very file is not there yet, and return its place.

    Args:
        output: the folder that holds snapshots; local or a URI.
        bundle: the model.

    Raises:
        StorageError: it cannot be written.
    """
    folder = files.join(output, MODELS)
    place = files.join(folder, bundle_file_name(bundle.name, bundle.digest))
    data = write_bundle(bundle)
    # Compared, not only looked for: a damaged file would fail every later run.
    if not (files.exists(place) and files.read_bytes(place) == data):
        files.make_folder(folder)
        files.write_atomic(place, [data])
    return place


def model_of(folder: str, info: ModelInfo) -> ModelBundle:
    """Return the model that computed the vectors of a snapshot, to embed queries with.

    It is found beside the snapshot or, by its digest, among the known and the added models.

    Args:
        folder: the folder of the snapshot; local or a URI.
        info: what the snapshot records of its model.

    Raises:
        UsageError: it is at neither place.
        BundleError: the bundle is damaged.
        ModelError: it cannot be built here.
    """
    output = folder.rstrip("/").rsplit("/", 2)[0]
    place = files.join(output, MODELS, bundle_file_name(info.name, info.digest))
    if files.exists(place):
        data = files.read_bytes(place)
        bundle = read_bundle(data, place)
        _check_digest(bundle.digest, place, info.digest)
        ensure_checked(bundle, data)
        return bundle
    for known in known_models():
        if known.digest == info.digest:
            return resolve_model(known.name)
    base = info.name.removesuffix(POOLED)
    if base in added_models() or (base != info.name and base in {m.name for m in known_models()}):
        bundle = resolve_model(info.name)
        if bundle.digest == info.digest:
            return bundle
    raise UsageError(
        f"the model {info.name!r} {info.digest} of {folder} is neither beside it nor known here; "
        "name its file with `model`"
    )


def share_model(bundle: ModelBundle) -> None:
    """Let :func:`open_model` in this process return this very bundle while somebody holds it."""
    _SHARED[bundle.digest] = bundle


def open_model(name_or_place: str, digest: str, content: str) -> ModelBundle:
    """Return the model that a run was started with.

    A file is not tried again: it must hold what the process that started the run has tried.

    Args:
        name_or_place: a known model's name, or the path or URI of a ``.fidmodel`` file.
        digest: the digest that it must have.
        content: its :func:`~featureid.models.bundle.content_digest`, by which a file must hold the
            same network, too; a known model of that name may have been written by another ``onnx``.

    Raises:
        UsageError: the name is not known.
        StorageError: the file cannot be read.
        ModelError: the bundle is damaged, or has another digest, or cannot be built here.
    """
    shared = _SHARED.get(digest)
    if shared is not None:
        return shared
    if not name_or_place.endswith(BUNDLE_SUFFIX):
        bundle = resolve_model(name_or_place)
        _check_digest(bundle.digest, name_or_place, digest)
        return bundle
    bundle = read_bundle(files.read_bytes(name_or_place), name_or_place)
    _check_digest(bundle.digest, name_or_place, digest)
    _check_digest(content_digest(bundle), f"{name_or_place} as it is now", content)
    return bundle


def _check_digest(found: str, name_or_place: str, digest: str) -> None:
    if found != digest:
        raise BundleError(
            f"model {name_or_place!r} has the digest {found}, but the run was started with "
            f"{digest}; do not replace a model file while a run uses it"
        )
