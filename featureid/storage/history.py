"""The snapshots of an output folder: listing them, and removing old ones and rubble."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from featureid.errors import FeatureIdError, UsageError
from featureid.storage import files
from featureid.storage.manifest import Manifest
from featureid.storage.run_record import RunReport, is_dead, read_run
from featureid.storage.snapshot import (
    MANIFEST,
    SNAPSHOTS,
    current_snapshot,
    is_snapshot_id,
    read_manifest,
    snapshot_folder,
)


@dataclass(frozen=True)
class Entry:
    """One folder of an output's snapshots.

    Attributes:
        snapshot: its id.
        folder: where it lies.
        manifest: of a complete snapshot; None for a run that has not ended, or never will, and
            for a snapshot whose manifest cannot be read.
        complete: whether there is a manifest.
        report: of its run, if there is one.
        current: whether ``current`` names it.
        dead: whether it is what a dead run has left.
    """

    snapshot: str
    folder: str
    manifest: Manifest | None
    complete: bool
    report: RunReport | None
    current: bool
    dead: bool

    @property
    def running(self) -> bool:
        """Whether a run may still be at it."""
        return not self.complete and not self.dead


def list_snapshots(output: str, now: datetime, dead_after: timedelta) -> list[Entry]:
    """Return the snapshots of an output folder and the rubble between them, oldest first.

    Args:
        output: the folder that holds snapshots.
        now: the time, aware of its zone.
        dead_after: see :func:`featureid.storage.run_record.is_dead`.

    Raises:
        StorageError: the folder or a file in it cannot be read.
    """
    newest = current_snapshot(output)
    names = files.list_places(files.join(output, SNAPSHOTS))
    return [_entry(output, name, newest, now, dead_after) for name in names if is_snapshot_id(name)]


def _entry(
    output: str, snapshot: str, newest: str | None, now: datetime, dead_after: timedelta
) -> Entry:
    folder = snapshot_folder(output, snapshot)
    report = read_run(folder)
    # Asked after the report was read: a run that ends in between is complete, not rubble.
    complete = files.exists(files.join(folder, MANIFEST))
    try:
        manifest = read_manifest(folder) if complete else None
    except FeatureIdError:
        manifest = None  # `featureid verify` tells what is wrong with it.
    dead = not complete and is_dead(snapshot, report, now, dead_after)
    return Entry(snapshot, folder, manifest, complete, report, snapshot == newest, dead)


def prune(output: str, keep: int, now: datetime, dead_after: timedelta) -> list[str]:
    """Remove all but the newest snapshots, and what dead runs have left.

    Never removed are the current snapshot, what a run may still be writing, and the snapshot from
    which such a run carries rows.

    Args:
        output: the folder that holds snapshots.
        keep: how many complete snapshots stay, the current one among them.
        now: the time, aware of its zone.
        dead_after: see :func:`featureid.storage.run_record.is_dead`.

    Returns:
        The ids of what was removed.

    Raises:
        UsageError: ``keep`` is less than 1.
        StorageError: something cannot be read or removed.
    """
    if keep < 1:
        raise UsageError(f"--keep is {keep}; the current snapshot always stays: give 1 or more")
    entries = list_snapshots(output, now, dead_after)
    complete = [entry for entry in entries if entry.complete]
    others = sorted(complete, key=lambda entry: (entry.current, entry.snapshot))
    old = [entry for entry in others[: max(0, len(others) - keep)] if not entry.current]
    removed = []
    for entry in entries:
        if entry.dead or (entry in old and _retire(output, entry, now, dead_after)):
            files.remove_folder(entry.folder)
            removed.append(entry.snapshot)
    return removed


def _retire(output: str, entry: Entry, now: datetime, dead_after: timedelta) -> bool:
    """Make a snapshot incomplete, unless it has become current or a run carries rows from it.

    A run first names its previous snapshot, then looks whether it is complete; here it is made
    incomplete first, and then looked whether one names it.  Of two that do so at once at least one
    sees the other.
    """
    if _in_use(output, entry.snapshot, now, dead_after):
        return False
    place = files.join(entry.folder, MANIFEST)
    content = files.read_bytes(place)
    files.remove(place)
    if _in_use(output, entry.snapshot, now, dead_after):
        files.write_atomic(place, [content])
        return False
    return True


def _in_use(output: str, snapshot: str, now: datetime, dead_after: timedelta) -> bool:
    if current_snapshot(output) == snapshot:
        return True
    return any(
        # A run that has counted what came out of it reads nothing more.
        entry.report is not None and entry.report.previous == snapshot and not entry.report.counts
        for entry in list_snapshots(output, now, dead_after)
        if entry.running
    )
