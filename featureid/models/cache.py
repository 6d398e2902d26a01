"""Files that are made once and kept: safe against crashes, damage and two processes at once."""

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
    """Return featureid's cache folder, which may not exist yet.

    It is ``$FEATUREID_CACHE``, else ``$XDG_CACHE_HOME/featureid``, else ``~/.cache/featureid``.
    """
    own = os.environ.get("FEATUREID_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "featureid"


def made_once(path: Path, make: Callable[[], bytes], read: Callable[[bytes], _T]) -> _T:
    """Return what is in the file ``path``, making the file first if it is missing or damaged.

    Of several processes that need it at once, one makes it and the others wait.

    Args:
        path: the file.
        make: returns what the file should hold.
        read: parses it; raises BundleError if it is damaged, whereupon the file is made again.

    Raises:
        ModelError: the folder cannot be read or written, or ``make`` failed.
        BundleError: ``read`` refuses what ``make`` has just made.
    """
    try:
        with suppress(FileNotFoundError, BundleError):
            return read(path.read_bytes())
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(path.name + ".lock")):
            found = _read_if_good(path, read)
            if found is not None:
                return found
            data = make()
            result = read(data)
            replace_file(path, [data])
            return result
    except OSError as error:
        raise ModelError(
            f"cannot keep {path}: {error.strerror or error}; set FEATUREID_CACHE to a folder that "
            "can be written"
        ) from error


def _read_if_good(path: Path, read: Callable[[bytes], _T]) -> _T | None:
    try:
        return read(path.read_bytes())
    except FileNotFoundError:
        return None
    except BundleError as error:
        _LOG.warning("%s cannot be used and will be made again: %s", path, error)
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file that stays; the system drops it if the process dies."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
