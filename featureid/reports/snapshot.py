"""A report of a snapshot: what is in it, what failed and why, and the runs before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter

from featureid.reports.bars import bar_chart
from featureid.reports.page import Group, Picture, Plot, Report, Section, Table, counted
from featureid.reports.pictures import facts_of, picture_of
from featureid.storage.history import Entry
from featureid.storage.reader import Snapshot
from featureid.storage.records import WHOLE_IMAGE, Failure

#: Images that are shown of a snapshot, and failures of each reason.
SHOWN_IMAGES, SHOWN_FAILURES = 240, 60


def snapshot_report(
    snapshot: Snapshot, history: Sequence[Entry], root: str | None = None
) -> Report:
    """Return a report of a snapshot.

    Args:
        snapshot: what is shown.
        history: the snapshots of its output folder, oldest first; empty if they are not known.
        root: the folder that its images were moved to; None if they are where they were.
    """
    sections = [Section("What it holds", facts=facts_of(snapshot))]
    reasons = snapshot.manifest.counts.failures_by_reason
    if reasons:
        rows = [(reason, count) for reason, count in reasons.items()]
        sections.append(
            Section(
                "Failures",
                tables=(Table(("Reason", "Images"), rows),),
                groups=_failures(snapshot, root),
            )
        )
    runs = [entry for entry in history if entry.manifest is not None]
    if len(runs) > 1:
        sections.append(_history(runs))
    shown = min(SHOWN_IMAGES, len(snapshot))
    note = f"{shown} of {counted(len(snapshot), 'image')}, evenly spaced in the order of the rows"
    sections.append(Section("Images", (note,), groups=_images(snapshot, shown, root)))
    return Report(f"Snapshot {snapshot.manifest.info.snapshot}", sections)


def _failures(snapshot: Snapshot, root: str | None) -> Iterator[Group]:
    reason = attrgetter("reason")
    failures = sorted(snapshot.failures(), key=lambda failure: (failure.reason, failure.key))
    for name, found in groupby(failures, reason):
        failed = [*found]
        pictures = [_failed(snapshot, failure, root) for failure in failed[:SHOWN_FAILURES]]
        left = len(failed) - len(pictures)
        notes = (f"and {left:,} more, which featureid inspect can list",) if left else ()
        yield Group(f"{name}: {counted(len(failed), 'image')}", pictures, notes)


def _failed(snapshot: Snapshot, failure: Failure, root: str | None) -> Picture:
    place = snapshot.locate(failure.key, root)
    return Picture(failure.key, place, notes=(f"{failure.stage}: {failure.message}",))


def _images(snapshot: Snapshot, shown: int, root: str | None) -> Iterator[Group]:
    keys = [*_spaced(snapshot, shown)]
    faces = snapshot.has_faces()
    pictures = []
    for key in keys:
        if not faces:
            pictures.append(picture_of(snapshot, key, root=root))
            continue
        for face, _ in snapshot.faces(key):
            notes = ("no face found",) if face.index == WHOLE_IMAGE else (f"face {face.index}",)
            box = None if face.index == WHOLE_IMAGE else face.box
            pictures.append(Picture(key, snapshot.locate(key, root), box, notes=notes))
    if pictures:
        yield Group("Images", pictures)


def _spaced(snapshot: Snapshot, wanted: int) -> Iterator[str]:
    """Yield some of the keys of a snapshot, evenly spaced."""
    return islice(snapshot, 0, None, max(1, len(snapshot) // max(1, wanted)))


def _history(runs: Sequence[Entry]) -> Section:
    rows, images, failed, seconds = [], [], [], []
    for entry in runs:
        assert entry.manifest is not None
        counts, record = entry.manifest.counts, entry.record
        spent = sum(record.timings.values()) if record and record.timings else None
        rows.append(
            (
                entry.snapshot,
                counts.images,
                counts.embedded,
                counts.failed,
                "" if spent is None else round(spent, 1),
                _changes(entry),
            )
        )
        images.append(counts.images)
        failed.append(counts.failed)
        seconds.append(spent or 0)
    names = runs[0].snapshot, runs[-1].snapshot
    plots = [
        Plot(bar_chart(title, values, *names), f"{title} of each run; the table has the figures")
        for title, values in (("Images", images), ("Failures", failed), ("Seconds", seconds))
        if any(values)
    ]
    columns = ("Run", "Images", "Embedded", "Failed", "Seconds", "Changes")
    return Section("Runs", tables=(Table(columns, rows),), plots=tuple(plots))


def _changes(entry: Entry) -> str:
    changes = (entry.record.changes or {}) if entry.record else {}
    return ", ".join(f"{count:,} {name}" for name, count in changes.items() if count)
