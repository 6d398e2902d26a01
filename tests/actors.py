"""Processes that use an output folder over and over, until their standard input ends.

    python -m tests.actors read OUTPUT
    python -m tests.actors prune OUTPUT KEEP

Each prints how often it did so, and ends with status 1 at the first thing that must not happen.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from featureid.errors import StorageError
from featureid.storage import files
from featureid.storage.lifecycle import prune
from featureid.storage.reader import open_snapshot
from featureid.storage.snapshot import MANIFEST


def read(output: str) -> None:
    """Open the current snapshot, which never fails, and read all of it.

    Reading may fail only if the snapshot is no longer current and has been deleted meanwhile.
    """
    snapshot = open_snapshot(output)
    try:
        assert len(snapshot.row_keys()) == len(snapshot.vectors()) > 0
    except StorageError:
        if files.exists(files.join(snapshot.folder, MANIFEST)):
            raise
        assert snapshot.folder != open_snapshot(output).folder


def main() -> None:
    """Act until standard input ends."""
    name, output, *rest = sys.argv[1:]

    def delete() -> None:
        prune(output, int(rest[0]), datetime.now(UTC), timedelta(days=3))

    act: Callable[[], None] = {"read": lambda: read(output), "prune": delete}[name]
    waiting = threading.Thread(target=sys.stdin.read, daemon=True)
    waiting.start()
    print("started", flush=True)
    times = 0
    while waiting.is_alive():
        act()
        times += 1
    print(times)


if __name__ == "__main__":
    main()
