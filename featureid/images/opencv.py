"""OpenCV without threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()


class _Users:
    """How many blocks are active, and the number of threads to restore after the last."""

    active = 0
    threads = 0


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep OpenCV from starting threads inside the block.

    featureid runs one thread per core, so threads of OpenCV would only compete with them. The
    setting is one for the whole process: it is restored when the last of the blocks that run at the
    same time ends, unless other code has changed it meanwhile.
    """
    import cv2

    with _LOCK:
        if not _Users.active:
            _Users.threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _Users.active += 1
    try:
        yield
    finally:
        with _LOCK:
            _Users.active -= 1
            if not _Users.active and cv2.getNumThreads() == 1:
                cv2.setNumThreads(_Users.threads)
