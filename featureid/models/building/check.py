"""Check a bundle whose origin is not known, once, before it is loaded in this process."""

from __future__ import annotations

import contextlib
from pathlib import Path

from featureid.atomic import replace_file
from featureid.errors import ModelError
from featureid.models.building.textures import textured_images
from featureid.models.building.trial import Tried, limits_for, try_model
from featureid.models.bundle import ModelBundle, content_digest, other_contents, seal_of
from featureid.models.cache import cache_folder
from featureid.models.contents import CONTENTS

TRIAL_IMAGES = 8
# Raise it when more is checked: every file is then checked again.
_REVISION = 2


def check_bundle(
    bundle: ModelBundle, seconds: float | None = None, memory_bytes: int | None = None
) -> Tried:
    """Try a model in a child process, on made-up images, and compare it with what its digest says.

    Args:
        bundle: the model.
        seconds: what that may take; None for the default.
        memory_bytes: how much memory; None for a multiple of the network's size.

    Raises:
        ModelError: it cannot be used; the message names it.
    """
    size = (bundle.preprocessing.height, bundle.preprocessing.width)
    limits = limits_for(len(bundle.network.data), seconds, memory_bytes)
    try:
        tried = try_model(bundle, textured_images(TRIAL_IMAGES, *size), limits)
        if not tried.independent:
            raise ModelError(
                "an image's vector depends on the other images of its batch, though its "
                "bundle.json says otherwise; add the model again"
            )
        check_contents(bundle, tried.network_sha256)
    except ModelError as error:
        raise ModelError(f"model {bundle.name!r}: {error}") from error
    return tried


def check_contents(bundle: ModelBundle, network_sha256: str | None) -> None:
    """Refuse a bundle that states the digest of a known model, but does not hold it.

    Args:
        bundle: the model.
        network_sha256: of its network, from
            :func:`featureid.models.building.onnx_structure.network_sha256`; None if it is not ONNX.

    Raises:
        ModelError: it holds another model; the message names both digests.
    """
    known = CONTENTS.get(bundle.digest)
    if known is not None and content_digest(bundle, network_sha256) != known:
        raise ModelError(other_contents(bundle, content_digest(bundle)))


def ensure_checked(bundle: ModelBundle, data: bytes) -> None:
    """Check a model unless this very file has passed before.

    Args:
        bundle: the model.
        data: its file, of which :func:`featureid.models.bundle.read_bundle` has checked the seal.

    Raises:
        ModelError: it cannot be used.
    """
    if not _record(data).exists():
        check_bundle(bundle)
        remember(data)


def remember(data: bytes) -> None:
    """Remember that the bundle in ``data`` has passed its check."""
    path = _record(data)
    with contextlib.suppress(OSError):  # without it, the file is checked again
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, [])


def _record(data: bytes) -> Path:
    return cache_folder() / f"checked-{_REVISION}" / seal_of(data)
