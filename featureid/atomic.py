"""Write files on a disk whole or not at all, even if the machine stops in between."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable


def replace_file(path: str | os.PathLike[str], chunks: Iterable[bytes]) -> int:
    """Create or replace a file and return its size.

    A temporary file beside it is forced to the disk, then renamed. If anything fails, the old file
    stays and the temporary file is removed; a process that is killed leaves it behind.

    Args:
        path: the file; its folder must exist. A link stays, and the file it leads to is replaced.
        chunks: the content; an exception of the iterable is raised as it is.

    Raises:
        OSError: it cannot be written, or is not a file: a rename would replace even a device.
    """
    _check_is_file(path)
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        total = _write_and_sync(handle, chunks)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)
    return total


def make_folders(path: str) -> None:
    """Make a folder and its parents, and force their names to the disk.

    Raises:
        OSError: one cannot be made.
    """
    missing = [os.path.abspath(path)]
    while not os.path.isdir(missing[-1]):
        missing.append(os.path.dirname(missing[-1]))
    os.makedirs(path, exist_ok=True)
    for folder in missing[1:]:
        _sync_folder(folder)


def _check_is_file(path: str | os.PathLike[str]) -> None:
    """Check that a file of this name, if there is one, is a regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EEXIST
        raise OSError(code, os.strerror(code), os.fspath(path))


def _write_and_sync(handle: int, chunks: Iterable[bytes]) -> int:
    total = 0
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            total += len(view)
            while view:
                view = view[os.write(handle, view) :]
        os.fsync(handle)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(handle)
        raise
    os.close(handle)
    return total


def _sync_folder(folder: str) -> None:
    """Force the rename to the disk, if the file system can; the file is whole either way."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
