"""Write files on a disk whole or not at all, even if the machine stops in between."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable

from featureid.regular_files import check_regular


def replace_file(path: str | os.PathLike[str], chunks: Iterable[bytes]) -> int:
    """Create or replace a file and return its size.

    A temporary file beside it is forced to the disk, then renamed. If anything fails, the old file
    stays and the temporary file is removed; a process that is killed leaves it behind. Who cannot
    enter the folder has no access to the file either, wherever it may be moved to.

    Args:
        path: the file; its folder must exist. A link stays, and the file it leads to is replaced.
        chunks: the content; an exception of the iterable is raised as it is.

    Raises:
        OSError: it cannot be written, or is not a file: a rename would replace even a device.
    """
    with contextlib.suppress(FileNotFoundError):
        check_regular(path)
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.tmp")
    mode = _file_mode(os.stat(folder).st_mode)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        total = _write_and_sync(handle, chunks)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)
    return total


def make_folders(path: str, private: bool = False) -> None:
    """Make a folder and its parents, and force their names to the disk.

    Args:
        path: the folder.
        private: make what is missing for this user only or, in a folder that is closed to all but a
            group, for that group.

    Raises:
        OSError: one cannot be made.
    """
    missing = [os.path.abspath(path)]
    while not os.path.isdir(missing[-1]):
        missing.append(os.path.dirname(missing[-1]))
    mode = _private_mode(os.stat(missing[-1]).st_mode) if private else 0o777
    for folder in missing[-2:0:-1]:
        with contextlib.suppress(FileExistsError):  # Another process has made it.
            os.mkdir(folder, mode)
    os.makedirs(path, mode, exist_ok=True)
    for folder in missing[1:]:
        _sync_folder(folder)


def _private_mode(parent: int) -> int:
    for_group = parent & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IXGRP)
    return 0o770 if for_group == stat.S_IRGRP | stat.S_IXGRP else 0o700


def _file_mode(folder: int) -> int:
    group, others = (0o060 if folder & stat.S_IRWXG else 0, 0o006 if folder & stat.S_IRWXO else 0)
    return 0o600 | group | others


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
