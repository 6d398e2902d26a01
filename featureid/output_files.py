"""The files that featureid writes into output folders, which are never images to embed."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from featureid.models import BUNDLE_SUFFIX
from featureid.storage import files
from featureid.storage.snapshot import CHECKED, COLLECTIONS, CURRENT, MODELS, is_snapshot_id

# What `featureid export` and `--metrics` write, under the names that the documentation gives it.
_FILES = (".bin", ".bin.gz", ".faiss", ".keys.jsonl", ".npy", ".parquet", ".prom")
_IN_COLLECTION = {
    f"/{name}/": re.compile(rf"(.*)/{name}/([^/]+)(?:/.*)?", re.DOTALL) for name in COLLECTIONS
}


def output_of(place: str) -> str | None:
    """Return the folder that a file was written for, if it is an output folder; None for none.

    Images may lie in the same folders, so that only exact names count.

    Args:
        place: absolute path or URI of a file or folder.
    """
    folder, _, name = place.rpartition("/")
    output = _run_in(place)
    if name in (CURRENT, CHECKED) or (output is None and name.endswith(_FILES)):
        return folder
    if name.endswith(BUNDLE_SUFFIX) and folder.endswith(f"/{MODELS}"):
        return folder.removesuffix(f"/{MODELS}")
    return output


def _run_in(place: str) -> str | None:
    """Return the output folder of a run's folder, or of a file in it; None for others."""
    for name, pattern in _IN_COLLECTION.items():
        found = pattern.fullmatch(place) if name in place else None
        if found and is_snapshot_id(found[2]):
            return found[1]
    return None


@dataclass(frozen=True)
class OutputFiles:
    """Which files of output folders are not listed as images.

    Attributes:
        is_output: whether a folder is an output folder.
        left_out: an output folder all of which is left out, as it lies below the folder that is
            listed; "" for none.
    """

    is_output: Callable[[str], bool]
    left_out: str = ""

    def hide(self, place: str) -> bool:
        """Return whether a file or folder is left out."""
        if self.left_out and f"{place}/".startswith(f"{self.left_out}/"):
            return True
        folder = output_of(place)
        return folder is not None and self.is_output(folder)


_NOTHING = OutputFiles(lambda _: False)


def local_outputs(output: str | None, top: str = "") -> OutputFiles:
    """Return what to leave out of a listing of local files, given with folders resolved.

    Args:
        output: the output folder of the run: an absolute path or a URI; "" for none. None leaves
            nothing out.
        top: the folder that is listed; "" if files are listed by name.
    """
    if output is None:
        return _NOTHING
    is_output = functools.lru_cache(maxsize=1024)(_holds_runs)
    if not (output and top) or files.is_remote(output):
        return OutputFiles(is_output)
    folder, above = os.path.realpath(output), os.path.realpath(top).rstrip("/") + "/"
    return OutputFiles(is_output, folder if folder.startswith(above) else "")


def _holds_runs(folder: str) -> bool:
    return any(
        is_snapshot_id(name)
        for collection in COLLECTIONS
        for name in _names_in(os.path.join(folder or "/", collection))
    )


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (OSError, ValueError):  # ValueError: the name has a NUL character.
        return []


def remote_outputs(
    output: str | None, store: Any, top: str, listed: Collection[str]
) -> OutputFiles:
    """Return what to leave out of a listing of objects, given by their paths in a store.

    Args:
        output: the output folder of the run: an absolute path or a URI; "" for none. None leaves
            nothing out.
        store: the fsspec file system of the objects.
        top: URI of the folder that is listed.
        listed: the paths of all objects.
    """
    if output is None:
        return _NOTHING
    folder, above = ((files.path_in(store, uri) or "").rstrip("/") for uri in (output, top))
    outputs = {folder, *map(_run_in, listed)} - {"", None}
    return OutputFiles(outputs.__contains__, folder if folder.startswith(f"{above}/") else "")


def named_outputs(output: str | None) -> OutputFiles:
    """Return what to leave out of a list of places, be they local paths or URIs.

    Args:
        output: the output folder of the run: an absolute path or a URI; "" for none. None leaves
            nothing out.
    """
    if output is None:
        return _NOTHING
    local, remote = local_outputs(output), output.rstrip("/")
    return OutputFiles(
        lambda folder: folder == remote if files.is_remote(folder) else local.is_output(folder)
    )


def without_links() -> Callable[[str], str]:
    """Return a function from the absolute path of a file to that path with folders resolved."""
    folder_of = functools.lru_cache(maxsize=1024)(os.path.realpath)

    def resolve(path: str) -> str:
        folder, name = os.path.split(path)
        return os.path.join(folder_of(folder), name)

    return resolve
