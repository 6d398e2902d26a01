"""Open and read local files, and nothing that might block or never end: no pipe, no device."""

from __future__ import annotations

import errno
import os
import stat


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check that there is a file.

    Raises:
        OSError: it cannot be looked at; ``EISDIR`` for a folder, ``EEXIST`` for a pipe, socket or
            device.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EEXIST, "it is a pipe, socket or device, not a file", os.fspath(path))


def open_regular(path: str | os.PathLike[str]) -> int:
    """Return the descriptor of a file, open for reading.

    Raises:
        OSError: it cannot be opened, or :func:`check_regular` refuses it.
    """
    check_regular(path)
    # Without waiting: the other end of a pipe that has taken its place may never be opened.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def read_regular(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """Return the first ``size`` bytes of a file, or all of it.

    Raises:
        OSError: it cannot be read, or :func:`check_regular` refuses it.
    """
    with open(open_regular(path), "rb") as file:
        return file.read(size)
