"""Which process does the work of a run, and whether it still runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

ProcessState = Literal["running", "ended", "unknown"]

_ALIVE = "alive"


def this_process() -> str:
    """Return what identifies this process: host, boot, process namespace, number, start time."""
    return f"{_machine()} {os.getpid()} {_start_time(os.getpid())}"


def state_of(process: str) -> ProcessState:
    """Return whether a process still runs.

    Args:
        process: as :func:`this_process` returned it. If it is of another machine or container,
            its state is unknown.
    """
    machine, _, rest = process.partition(" ")
    number, _, start_time = rest.partition(" ")
    if machine != _machine() or not number.isdecimal():
        return "unknown"
    found = _start_time(int(number))
    if found == _ALIVE:
        return "unknown"  # The number may belong to another process by now.
    return "running" if found == start_time else "ended"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""  # Not Linux: the host name alone has to do.
    return f"{socket.gethostname()}/{boot}/{namespace}".replace(" ", "-")


def _start_time(number: int) -> str:
    """Return when a process started, as text; ``_ALIVE`` if that is hidden, "" if it has ended."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except OSError:
        return _ALIVE if _is_alive(number) else ""  # No such process, or not Linux.


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
