"""Runs the ``featureid`` command and lets it die, or its disk fail, just before a system call.

    python tests/fail_at.py FATE EVENT PATTERN NUMBER featureid-arguments...

EVENT is one of Python's audit events (``open``, ``os.rename``, ``os.scandir``, ``os.mkdir``), and
it happens before the NUMBER-th one whose path contains PATTERN. FATE is ``kill``, as a power cut
would, or the name of an error such as ``ENOSPC`` or ``EROFS`` with which this and every later write
below a folder called ``out`` fails. The product knows nothing of this.
"""

import errno
import os
import signal
import sys
from typing import Any

WRITES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


def main() -> int:
    fate, event, pattern, number = *sys.argv[1:4], int(sys.argv[4])
    seen = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name != event and name not in WRITES:
            return
        # The target of a rename is what the file is about to be called.
        place = arguments[1] if name == "os.rename" else arguments[0]
        path = os.fsdecode(place) if isinstance(place, str | bytes) else ""
        if name == event and pattern in path:
            seen += 1
            if seen == number and fate == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        reads = name == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if seen >= number and name in WRITES and not reads and "/out/" in path:
            raise OSError(getattr(errno, fate), os.strerror(getattr(errno, fate)))

    from featureid.cli import main as cli

    sys.addaudithook(hook)
    return cli.main(sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
