"""List the snapshots of an output folder, and what unfinished runs have left between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from featureid.errors import FeatureIdError
from featureid.storage import files
from featureid.storage.manifest import Manifest
from featureid.storage.run_record import RunRecord, is_too_old, read_run
from featureid.storage.snapshot import (
    MANIFEST,
    SNAPSHOTS,
    check_output,
    read_current,
    read_manifest,
    read_sequence,
    snapshot_folder,
    snapshot_ids,
)


@dataclass(frozen=True)
class Entry:
    """One folder of an output's snapshots.

    Attributes:
        snapshot: its id.
        folder: its place.
        manifest: of a complete snapshot; None for an incomplete one, or if it cannot be read.
        complete: whether there is a manifest.
        record: of its run, if there is one.
        over: whether its run is known to write nothing more.
        sequence: what number of publication it is; 0 if it is not complete or cannot be read.
        current: whether ``current`` names it, or readers get it although ``current`` does not.
    """

    snapshot: str
    folder: str
    manifest: Manifest | None
    complete: bool
    record: RunRecord | None
    over: bool
    sequence: int = 0
    current: bool = False

    @property
    def dead(self) -> bool:
        """Whether it is what a run left behind that will never complete it."""
        return self.over and not self.complete


def list_snapshots(
    output: str, now: datetime, dead_after: timedelta, collection: str = SNAPSHOTS
) -> list[Entry]:
    """Return the snapshots of an output folder: first those that are complete, oldest first.

    Args:
        output: the folder that holds snapshots.
        now: the time, aware of its zone.
        dead_after: see :meth:`featureid.storage.run_record.RunRecord.is_over`.
        collection: ``results`` for the results in an output folder, which have no manifest of a
            snapshot.

    Raises:
        StorageError: it is not an output folder, or a file in it cannot be read.
    """
    check_output(output, collection)
    before = read_current(output, collection)
    while True:
        ids = snapshot_ids(output, collection)
        folders = [snapshot_folder(output, name, collection) for name in ids]
        found = [_entry(folder, now, dead_after) for folder in folders]
        # Read after the entries: a run that is listed as committed has updated it by then, so that
        # no snapshot is listed as an older one that is just becoming current.
        current = read_current(output, collection)
        if current == before:
            both = {current.named, current.snapshot}
            entries = [replace(entry, current=entry.snapshot in both) for entry in found if entry]
            return sorted(entries, key=_age)
        before = current


def _age(entry: Entry) -> tuple[bool, int, str]:
    return not entry.complete, entry.sequence, entry.snapshot


def _entry(folder: str, now: datetime, dead_after: timedelta) -> Entry | None:
    """Return the entry of a folder; None if it has been removed meanwhile."""
    snapshot = folder.rpartition("/")[2]
    place = files.join(folder, MANIFEST)
    record = read_run(folder)
    # In this order: a run may publish its snapshot and end between the two questions.
    over = record.is_over(now, dead_after) if record else is_too_old(snapshot, now, dead_after)
    complete, manifest, sequence = files.exists(place), None, None
    if complete:
        try:
            sequence = read_sequence(folder)
            manifest = read_manifest(folder)
        except FeatureIdError:
            complete = files.exists(place)  # Damaged, or removed meanwhile.
    if not complete and not files.exists(folder):
        return None
    # A complete snapshot without a record was brought here by other means than a run.
    over = over or (complete and not record)
    return Entry(snapshot, folder, manifest, complete, record, over, sequence or 0)
