"""``run.json``: what a run was told to do and has done, and whether it is still at it.

It is written into the snapshot's folder before anything else and names the snapshot that the run
carries rows from, so that nobody removes that one meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from featureid.errors import StorageError
from featureid.storage import files

RUN = "run.json"
_FORMAT = "featureid-run"
_MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class RunReport:
    """One run, as ``run.json`` has it.

    Attributes:
        snapshot: id of the snapshot that it writes.
        started: UTC, ISO 8601.
        writer: program and version.
        options: what it was told to do, as far as JSON can say it.
        versions: of what it runs on: Python, packages, machine.
        previous: id of the snapshot that rows are carried from; "" for none.
        process: the process that does it; "" where it is done elsewhere.
        changes: images that were new, changed, unchanged, ...; empty until the run has ended.
        counts: images, embedded, failed, as in the manifest; empty until the run has ended.
        failures_by_reason: how many images failed for which reason.
        timings: seconds of every stage, measured over all workers; empty until the run has ended
            and where nobody waited for its end.
        metrics: throughput and Beam's counters, by name; the same.
    """

    snapshot: str
    started: str
    writer: str
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    previous: str = ""
    process: str = ""
    changes: Mapping[str, int] | None = None
    counts: Mapping[str, int] | None = None
    failures_by_reason: Mapping[str, int] | None = None
    timings: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None

    def to_json(self) -> bytes:
        """Return the report as JSON, what is not known yet left out."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return (json.dumps({"format": _FORMAT, **known}, indent=1) + "\n").encode()


def write_run(folder: str, report: RunReport) -> None:
    """Write ``run.json`` into a snapshot's folder, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    files.write_atomic(files.join(folder, RUN), [report.to_json()])


def read_run(folder: str) -> RunReport | None:
    """Return the report of a snapshot's folder; None if it has none that can be read as one.

    Raises:
        StorageError: it cannot be found out.
    """
    place = files.join(folder, RUN)
    if not files.exists(place):
        return None
    try:
        fields = json.loads(files.read_bytes(place, _MAX_BYTES))
        if fields.pop("format") != _FORMAT:
            return None
        names = set(RunReport.__dataclass_fields__)
        return RunReport(**{name: value for name, value in fields.items() if name in names})
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, StorageError):
        return None  # Half of a report helps nobody, and it is no part of the data.


def this_process() -> str:
    """What tells this process from all others: host, boot, process namespace, number, start."""
    return f"{_place()} {os.getpid()} {_start_of(os.getpid())}"


def process_has_ended(process: str) -> bool:
    """Whether a process of :func:`this_process` is known to have ended.

    Nothing is known of another machine's or container's, nor of one of another format.
    """
    place, _, rest = process.partition(" ")
    if place != _place() or not rest:
        return False
    number, _, start = rest.partition(" ")
    return not number.isdecimal() or _start_of(int(number)) != start


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = ""  # No Linux: the host's name has to do.
    return f"{socket.gethostname()}/{boot}/{namespace}".replace(" ", "-")


def _start_of(number: int) -> str:
    """When a process started, as text to be compared; "" if it does not run."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[19]
    except OSError:
        # Where there is no /proc, a number that is in use again counts as the same process.
        return "runs" if _runs(number) else ""


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def started_at(snapshot: str) -> datetime:
    """When the run of a snapshot id was started, to the second."""
    return datetime.strptime(snapshot[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def is_dead(snapshot: str, report: RunReport | None, now: datetime, dead_after: timedelta) -> bool:
    """Whether the run behind a folder without a manifest will never end.

    Args:
        snapshot: its id.
        report: its report, if it has one.
        now: the time, aware of its zone.
        dead_after: a run of whose process nothing is known is dead when so much has passed.
    """
    if report is not None and report.process and process_has_ended(report.process):
        return True
    return now - started_at(snapshot) > dead_after
