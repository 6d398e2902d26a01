"""A double of the system calls of files, of which one fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: By descriptor, or by path.
CALLS = ("close", "fsync", "write", "pread", "open", "replace", "mkdir")


class Count:
    """How many calls there were."""

    calls = 0


@contextmanager
def failing(call: str, number: int, folder: Path) -> Iterator[Count]:
    """Let one call on files in a folder, or on folders in it, fail with EIO; close closes as well.

    Args:
        call: one of :data:`CALLS`.
        number: which one fails, from 1; 0 for none.
        folder: the folder.
    """
    real: Callable[..., Any] = (lambda _: None) if call == "fsync" else getattr(os, call)
    count = Count()

    def double(target: Any, *arguments: Any, **options: Any) -> Any:
        place = arguments[0] if call == "replace" else target
        if isinstance(place, int):
            place = os.readlink(f"/proc/self/fd/{place}")
        fails = False
        if isinstance(place, str | os.PathLike) and Path(place).is_relative_to(folder):
            count.calls += 1
            fails = count.calls == number
        if fails and call != "close":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        result = real(target, *arguments, **options)
        if fails:  # The descriptor is gone in any case.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # It takes long.
        patch.setattr(os, call, double)
        yield count
