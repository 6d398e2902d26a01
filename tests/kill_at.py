"""Runs the ``featureid`` command and kills it, as a power cut would, just before a system call.

    python tests/kill_at.py EVENT PATTERN NUMBER featureid-arguments...

EVENT is one of Python's audit events (``open``, ``os.rename``, ``os.scandir``, ``os.mkdir``);
the process gets SIGKILL before the NUMBER-th one whose path contains PATTERN. The product knows
nothing of this.
"""

import os
import signal
import sys


def main() -> int:
    event, pattern, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    seen = 0

    def kill(name: str, arguments: tuple) -> None:
        nonlocal seen
        if name != event:
            return
        # The target of a rename is what the file is about to be called.
        place = arguments[1] if name == "os.rename" else arguments[0]
        if isinstance(place, str | bytes) and pattern in os.fsdecode(place):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    from pipelines import cli

    sys.addaudithook(kill)
    return cli.main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
