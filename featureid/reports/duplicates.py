"""A report of duplicates: groups of images that look alike, and which one to keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from featureid.matching.collection import Collection
from featureid.matching.duplicates import Duplicates, Keep, Member
from featureid.matching.duplicates import Group as Found
from featureid.reports.page import Group, Picture, Report, Section, counted
from featureid.reports.pictures import picture_of
from featureid.storage.reader import Snapshot

_WHY = dict(
    zip(
        get_args(Keep),
        (
            "with the most pixels",
            "that is changed first",
            "that is the first known one",
            "that is the first by key",
        ),
        strict=True,
    )
)


def duplicates_report(
    found: Duplicates,
    rows: Collection,
    places: Sequence[Snapshot],
    keep: Keep,
    summary: Sequence[str],
    root: str | None = None,
) -> Report:
    """Return a report of duplicates.

    Args:
        found: the groups.
        rows: what was compared.
        places: the snapshot of each row.
        keep: by what the image to keep of a group was chosen.
        summary: lines that say what was found, and how.
        root: the folder that the images were moved to; None if they are where they were.
    """

    def groups() -> Iterator[Group]:
        for number, group in enumerate(found.groups, 1):
            pictures = [
                _picture(member, group, rows, places[member.row], root) for member in group.members
            ]
            yield Group(f"Group {number}: {counted(len(pictures), 'image')}", pictures)

    why = f"Ticked is what to keep: of each group the image {_WHY[keep]}."
    return Report(
        "Duplicates",
        [Section("Groups", groups=groups())],
        tick="keep",
        moves="unticked",
        notes=(*summary, why),
    )


def _picture(
    member: Member, group: Found, rows: Collection, place: Snapshot, root: str | None
) -> Picture:
    kept = member.row == group.keep
    known = bool(rows.origin[member.row])
    notes = []
    if rows.faces[member.row] is not None:
        notes.append(f"face {rows.faces[member.row]}")
    if member.identical and not kept:
        notes.append("same bytes as the one to keep")
    if member.hash_distance is not None:
        notes.append(f"hashes differ in {member.hash_distance} bits")
    if rows.sizes[member.row] > 0:
        notes.append(f"{rows.sizes[member.row] / 1000:,.0f} kB")
    return picture_of(
        place,
        rows.keys[member.row],
        rows.faces[member.row],
        root,
        score=member.score,
        notes=tuple(notes),
        badge="known" if known else "",
        ticked=None if known else kept,
    )
