"""Open and read local files, and nothing that might block or never end: no pipe, no device."""

from __future__ import annotations

import contextlib
import errno
import os
import stat


def open_regular(path: str | os.PathLike[str]) -> int:
    """Return the descriptor of a file, open for reading.

    Raises:
        OSError: it cannot be opened; ``EISDIR`` for a folder, ``EEXIST`` for a pipe, socket or
            device.
    """
    # Without waiting: the other end of a pipe may never be opened.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    with contextlib.suppress(OSError):
        os.close(handle)
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EEXIST, "it is a pipe, socket or device, not a file", os.fspath(path))


def read_regular(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """Return the first ``size`` bytes of a file, or all of it.

    Raises:
        OSError: it cannot be read, or :func:`open_regular` refuses it.
    """
    with open(open_regular(path), "rb") as file:
        return file.read(size)
