"""The files that featureid writes into an output folder, which are never images to embed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featureid.models import BUNDLE_SUFFIX
from featureid.storage import files
from featureid.storage.snapshot import CHECKED, CURRENT, MODELS, SNAPSHOTS, is_snapshot_id

# What `featureid export` and `--metrics` write, under the names that the documentation gives it.
_FILES = (".bin", ".bin.gz", ".faiss", ".keys.jsonl", ".npy", ".parquet", ".prom")


def is_output_file(name: str) -> bool:
    """Return whether featureid writes a file or folder of this name into an output folder.

    Images may lie in the same folder, so that only exact names count.

    Args:
        name: relative to the output folder, with slashes.
    """
    first, _, rest = name.partition("/")
    if first == SNAPSHOTS:
        return is_snapshot_id(rest.partition("/")[0])
    if first == MODELS:
        return rest.endswith(BUNDLE_SUFFIX)
    return not rest and (first in (CURRENT, CHECKED) or first.endswith(_FILES))


def may_be_output_file(place: str) -> bool:
    """Return whether the name of a file could be one of :func:`is_output_file`; quick."""
    name = place.rpartition("/")[2]
    known = name in (CURRENT, CHECKED) or name.endswith((BUNDLE_SUFFIX, *_FILES))
    return known or f"/{SNAPSHOTS}/" in place


@dataclass(frozen=True)
class OutputFiles:
    """Which files of an output folder are not listed as images.

    Attributes:
        folder: the output folder, without links, or its path in its store; "" for none.
        whole: whether to leave out all of it, since it lies below the folder that is listed.
    """

    folder: str
    whole: bool = False

    def hide(self, place: str) -> bool:
        """Return whether a file or folder, written like ``folder``, is left out."""
        folder = self.folder
        if not folder or not place.startswith(folder):
            return False
        if place == folder:
            return self.whole
        inside = folder if folder.endswith("/") else f"{folder}/"
        return place.startswith(inside) and (self.whole or is_output_file(place[len(inside) :]))


def local_output(output: str, top: str = "") -> OutputFiles:
    """Return what to leave out of a listing of local files.

    Args:
        output: the output folder: an absolute path or a URI; "" for none.
        top: the folder that is listed; "" if files are listed by name.
    """
    if not output or files.is_remote(output):
        return OutputFiles("")
    folder = os.path.realpath(output)
    above = os.path.realpath(top).rstrip("/") + "/" if top else ""
    return OutputFiles(folder, bool(above) and folder.startswith(above))


def remote_output(output: str, store: Any, top: str = "") -> OutputFiles:
    """Return what to leave out of a listing of objects.

    Args:
        output: the output folder: an absolute path or a URI; "" for none.
        store: the fsspec file system of the objects.
        top: URI of the folder that is listed; "" if objects are listed by name.
    """
    folder, above = ((files.path_in(store, uri) or "").rstrip("/") for uri in (output, top))
    return OutputFiles(folder, bool(above) and folder.startswith(f"{above}/"))


def without_links() -> Callable[[str], str]:
    """Return a function from the absolute path of a file to that path with folders resolved."""
    folder_of = functools.lru_cache(maxsize=1024)(os.path.realpath)

    def resolve(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(folder_of(folder), name)

    return resolve
