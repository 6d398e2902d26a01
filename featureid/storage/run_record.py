"""``run.json``: what a run was asked to do, what it did, and whether it is over.

It is written into the snapshot's folder before anything else. While it says that the run is going
on, nobody may remove that folder, nor the snapshot that the run carries rows from.
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import metadata
from typing import Any, Literal, Protocol

from featureid.errors import StorageError
from featureid.masking import masked_values
from featureid.parallel import available_cpus
from featureid.storage import files
from featureid.storage.process import state_of
from featureid.storage.records import ModelInfo
from featureid.storage.snapshot import is_snapshot_id, started_at
from featureid.stored_json import convert_json, decode_json

RUN = "run.json"
_FORMAT = "featureid-run"
_MAX_BYTES = 1 << 24

#: ``committed``: the manifest is written and ``current`` names this snapshot or a newer one. A run
#: that is discarded or aborted leaves no record at all.
State = Literal["running", "committed"]


class Info(Protocol):
    """What is known as a run starts of the snapshot or result that it writes."""

    @property
    def run(self) -> str:
        """Its id."""
        ...

    @property
    def created(self) -> str:
        """UTC, ISO 8601."""
        ...

    @property
    def writer(self) -> str:
        """Program and version."""
        ...

    @property
    def model(self) -> ModelInfo:
        """What made the vectors."""
        ...


@dataclass(frozen=True)
class RunRecord:
    """One run, as ``run.json`` states it.

    Attributes:
        snapshot: id of the snapshot, or the result, that it writes.
        started: UTC, ISO 8601.
        writer: program and version.
        options: what it was asked to do, as far as JSON can express it, without secrets.
        versions: Python, packages and machine.
        previous: id of the snapshot that rows are carried from; "" for none.
        process: the local process that does the work; "" if it is done elsewhere.
        state: whether the run is over.
        changes: numbers of new, changed, unchanged, ... images; None until the run commits.
        counts: images, embedded, failed, as in the manifest, and rows; None until the run commits.
        failures_by_reason: reason code to number of images; None until the run commits.
        timings: seconds of every stage over all workers; None until the command that started the
            run has seen its end.
        metrics: throughput and Beam's counters by name; None as for ``timings``.
    """

    snapshot: str
    started: str
    writer: str
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    previous: str = ""
    process: str = ""
    state: State = "running"
    changes: Mapping[str, int] | None = None
    counts: Mapping[str, int] | None = None
    failures_by_reason: Mapping[str, int] | None = None
    timings: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if not is_snapshot_id(self.snapshot):
            raise StorageError(f"snapshot is {self.snapshot!r}, which is not a snapshot id")

    @classmethod
    def begin(
        cls,
        info: Info,
        options: Mapping[str, Any],
        versions: Mapping[str, str],
        *,
        previous: str = "",
        process: str = "",
    ) -> RunRecord:
        """Return the record of a run that starts to write ``info``, with all URIs masked."""
        masked: dict[str, Any] = masked_values(options)
        return cls(info.run, info.created, info.writer, masked, versions, previous, process)

    def to_json(self) -> bytes:
        """Return the record as JSON without what is not known yet."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        text = json.dumps({"format": _FORMAT, **known}, ensure_ascii=False, indent=1) + "\n"
        return text.encode("utf-8", "replace")  # An option may be a path that is not UTF-8.

    def is_over(self, now: datetime, dead_after: timedelta) -> bool:
        """Return whether the run is known to write nothing more, committed or dead.

        Args:
            now: the time, aware of its zone.
            dead_after: treat a run as dead this long after its start if its process cannot be
                checked.
        """
        if self.state == "committed":
            return True
        state = state_of(self.process)
        return state == "ended" or (
            state == "unknown" and is_too_old(self.snapshot, now, dead_after)
        )


def is_too_old(snapshot: str, now: datetime, dead_after: timedelta) -> bool:
    """Return whether the run that writes a snapshot started longer ago than ``dead_after``."""
    return now - started_at(snapshot) > dead_after


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return what a run runs on: Python, those of the packages that are installed, the machine."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    machine = f"{platform.system()} {platform.machine()}, {available_cpus()} cores"
    return {**found, "machine": machine}


def write_run(folder: str, record: RunRecord) -> None:
    """Write ``run.json`` into a snapshot's folder, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    files.write_atomic(files.join(folder, RUN), [record.to_json()])


def read_run(folder: str) -> RunRecord | None:
    """Return the record in a snapshot's folder; None if there is none, or it is not a whole one.

    Raises:
        StorageError: it cannot be read.
    """
    place = files.join(folder, RUN)
    if not files.exists(place):
        return None
    try:
        data = files.read_bytes(place, _MAX_BYTES)
    except StorageError:
        if files.exists(place):
            raise
        return None  # Removed meanwhile.
    try:
        fields = decode_json(data, dict[str, Any])
        return convert_json(fields, RunRecord) if fields.get("format") == _FORMAT else None
    except ValueError:
        return None  # Treat a partial record as absent; the snapshot's data does not need it.
