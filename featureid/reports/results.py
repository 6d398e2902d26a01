"""A report of a published result of matching: matches, or groups of duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from featureid.masking import bare_uri
from featureid.reports.page import Group, Picture, Report, Section, counted
from featureid.reports.pictures import picture_of
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.result_reader import Results

#: Groups, or queries, that a page shows; a result may have millions.
MOST_GROUPS = 10_000

Row = Mapping[str, Any]


def results_report(results: Results, root: str | None = None) -> Report:
    """Return a report of a result.

    Args:
        results: the result; the snapshots that it was made from must be where they were.
        root: the folder that the images were moved to; None if they are where they were.

    Raises:
        StorageError: one of the snapshots cannot be read.
    """
    info = results.manifest.info
    sources = {role: open_snapshot(source.folder) for role, source in info.sources.items()}
    facts = (
        ("Result", bare_uri(results.folder)),
        ("Made", f"{info.created} by {info.writer}"),
        ("Model", info.model.name),
        *((role.capitalize(), source.folder) for role, source in info.sources.items()),
        *((name, str(value)) for name, value in info.options.items() if value is not None),
        *((name.replace("_", " "), f"{n:,}") for name, n in results.manifest.counts.items()),
    )
    duplicates = results.kind == "duplicates"
    shown = _duplicates(results, sources["snapshot"], root) if duplicates else None
    groups = shown or _matches(results, sources["query"], sources["gallery"], root)
    title = "Groups" if duplicates else "Queries"
    note = f"The first {MOST_GROUPS:,}, if there are more."
    return Report(
        "Duplicates" if duplicates else "Matches",
        [
            Section("What it is", facts=facts),
            Section(title, (note,), groups=islice(groups, MOST_GROUPS)),
        ],
        tick="keep" if duplicates else "select",
        moves="unticked" if duplicates else "ticked",
    )


def _duplicates(results: Results, snapshot: Snapshot, root: str | None) -> Iterator[Group]:
    """Yield the groups; the rows of one follow each other."""
    for number, (_, rows) in enumerate(groupby(results, itemgetter("group")), 1):
        pictures = [
            picture_of(
                snapshot,
                row["key"],
                row.get("face"),
                root,
                score=row["score"],
                notes=("same bytes as the one to keep",) * (row["identical"] and not row["keep"]),
                ticked=row["keep"],
            )
            for row in rows
        ]
        yield Group(f"Group {number}: {counted(len(pictures), 'image')}", pictures)


def _matches(
    results: Results, queries: Snapshot, gallery: Snapshot, root: str | None
) -> Iterator[Group]:
    """Yield the queries with their matches; the rows of one follow each other."""
    of_query = [name for name in ("query", "query_face") if name in _columns(results)]
    for _, found in groupby(results, itemgetter(*of_query)):
        rows = [*found]
        key, face = rows[0]["query"], rows[0].get("query_face")
        yield Group(
            key if face is None else f"{key}, face {face}",
            [picture_of(queries, key, face, root, badge="query")]
            + [_match(row, gallery, root) for row in rows],
        )


def _match(row: Row, gallery: Snapshot, root: str | None) -> Picture:
    return picture_of(gallery, row["key"], row.get("face"), root, score=row["score"], ticked=False)


def _columns(results: Results) -> set[str]:
    return {column.name for column in results.manifest.info.columns}
