"""Cached files, built once, safe against crashes, damage and concurrent processes."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from featureid.atomic import replace_file
from featureid.errors import BundleError, ModelError

_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the cache folder of featureid, which may not exist yet.

    It is ``$FEATUREID_CACHE``, else ``$XDG_CACHE_HOME/featureid``, else ``~/.cache/featureid``.
    """
    own = os.environ.get("FEATUREID_CACHE")
    if own:
        return expand_home(own, "FEATUREID_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else expand_home("~/.cache", "FEATUREID_CACHE")) / "featureid"


def expand_home(path: str, variable: str) -> Path:
    """Return a path with ``~`` at its start as the home folder.

    Args:
        path: the path.
        variable: of the environment, that names another folder.

    Raises:
        ModelError: no home folder is known, as in a container with an unknown user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ModelError(
            f"{path}: there is no home folder, since HOME is not set and the user "
            f"{os.getuid()} is not known here; set {variable} to a folder"
        ) from error


def built_once(path: Path, build: Callable[[], bytes], read: Callable[[bytes], _T]) -> _T:
    """Return the content of the file ``path``, building it first if it is missing or damaged.

    If several processes need it at the same time, one builds it and the others wait.

    Args:
        path: the file.
        build: returns the bytes of the file.
        read: parses them; if it raises BundleError, the file is built again.

    Raises:
        ModelError: the folder cannot be read or written, or ``build`` failed.
        BundleError: ``read`` refuses what ``build`` has just returned.
    """
    try:
        with suppress(FileNotFoundError, BundleError):
            return read(path.read_bytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(path.name + ".lock")):
            found = _read_if_good(path, read)
            if found is not None:
                return found
            data = build()
            result = read(data)
            replace_file(path, [data])
            return result
    except OSError as error:
        raise ModelError(
            f"cannot cache {path}: {error.strerror or error}; set FEATUREID_CACHE to a writable "
            "folder"
        ) from error


def _read_if_good(path: Path, read: Callable[[bytes], _T]) -> _T | None:
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        return None
    except BundleError as error:
        _LOG.warning("%s cannot be used and will be built again: %s", path, error)
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel releases it if this process dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
