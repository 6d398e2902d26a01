"""Run the ``featureid`` command, and stop it, kill it or let its disk fail before a system call.

    python tests/fail_at.py FATE EVENT PATTERN NUMBER featureid-arguments...

EVENT is one of Python's audit events (``open``, ``os.rename``, ``os.scandir``, ``os.mkdir``), and
FATE takes effect before the NUMBER-th one whose path contains PATTERN:

- ``stop`` suspends the process, until another one sends it SIGCONT;
- ``kill`` kills it, as a power cut would;
- the name of an error such as ``ENOSPC`` or ``EROFS`` makes this and every later write below a
  folder called ``out`` fail with that error.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

SIGNALS = {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}
WRITES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")


def main() -> int:
    """Run the command with an audit hook."""
    fate, event, pattern, number = *sys.argv[1:4], int(sys.argv[4])
    seen = 0

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name != event and name not in WRITES:
            return
        # The target of a rename is the file's new name.
        place = arguments[1] if name == "os.rename" else arguments[0]
        path = os.fsdecode(place) if isinstance(place, str | bytes) else ""
        if name == event and pattern in path:
            seen += 1
            if seen == number and fate in SIGNALS:
                os.kill(os.getpid(), SIGNALS[fate])
        if fate in SIGNALS or seen < number or name not in WRITES or "/out/" not in path:
            return
        if name != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            raise OSError(getattr(errno, fate), os.strerror(getattr(errno, fate)))

    from featureid.cli import main as cli

    sys.addaudithook(hook)
    return cli.main(sys.argv[5:])


if __name__ == "__main__":
    sys.exit(main())
