"""Models in the output folder: how one reaches workers that have neither a cache nor TensorFlow.

The launcher puts the bundle there once; workers load it by its place, over the same file system
that they write their shards to, and the model of a snapshot so stays beside it.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

from featureid.errors import BundleError
from featureid.models import (
    BUNDLE_SUFFIX,
    ModelBundle,
    bundle_file_name,
    read_bundle,
    resolve_model,
    write_bundle,
)
from featureid.storage import files

MODELS = "models"

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


def share_model(bundle: ModelBundle) -> None:
    """Let :func:`open_model` in this process return this very bundle while somebody holds it."""
    _SHARED[bundle.digest] = bundle


def open_model(name_or_place: str, digest: str) -> ModelBundle:
    """Return the model that a run was started with.

    Args:
        name_or_place: a known model's name, or the path or URI of a ``.fidmodel`` file.
        digest: the digest that it must have.

    Raises:
        UsageError: the name is not known.
        StorageError: the file cannot be read.
        ModelError: the bundle is damaged, or has another digest, or cannot be built here.
    """
    shared = _SHARED.get(digest)
    if shared is not None:
        return shared
    if name_or_place.endswith(BUNDLE_SUFFIX):
        bundle = read_bundle(files.read_bytes(name_or_place), name_or_place)
    else:
        bundle = resolve_model(name_or_place)
    if bundle.digest != digest:
        raise BundleError(
            f"model {name_or_place!r} has the digest {bundle.digest}, but the run was started "
            f"with {digest}; do not replace a model file while a run uses it"
        )
    return bundle
