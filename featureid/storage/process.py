"""Which process does a run, and whether it has ended, as far as this machine can tell."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """Return what identifies this process: host, boot, process namespace, number, start time."""
    return f"{_machine()} {os.getpid()} {_start_time(os.getpid())}"


def has_ended(process: str) -> bool:
    """Return whether a process is known to have ended.

    Args:
        process: as :func:`this_process` returned it. If it ran on another machine or in another
            container, or the text has another format, the answer is False: it cannot be checked.
    """
    machine, _, rest = process.partition(" ")
    if machine != _machine() or not rest:
        return False
    number, _, start_time = rest.partition(" ")
    return not number.isdecimal() or _start_time(int(number)) != start_time


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""  # Not Linux: the host name alone has to do.
    return f"{socket.gethostname()}/{boot}/{namespace}".replace(" ", "-")


def _start_time(number: int) -> str:
    """Return when a process started, as text to be compared; "" if it is not running."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except OSError:
        # Without /proc, another process that reuses the number counts as the same one.
        return "running" if _is_running(number) else ""


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
