"""A report of a search: each query with what was found for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featureid.evaluation.calibration import Calibration
from featureid.matching.gallery import Gallery
from featureid.queries import Answer, Hit
from featureid.reports.page import Group, Picture, Report, Section
from featureid.reports.pictures import picture_of


def search_report(
    answers: Sequence[Answer],
    gallery: Gallery,
    calibration: Calibration | None,
    root: str | None = None,
) -> Report:
    """Return a report of a search.

    Args:
        answers: what was found.
        gallery: what was searched.
        calibration: what verdicts rest on.
        root: the folder that the gallery's images were moved to; None if they are where they were.
    """

    def groups() -> Iterator[Group]:
        for answer in answers:
            query = Picture(answer.query.name, answer.query.uri, answer.query.box, badge="query")
            hits = [_hit(hit, gallery, calibration, root) for hit in answer.hits]
            notes = () if hits else ("no match",)
            if answer.cut_off:
                notes = (f"{answer.cut_off} more, which -k cut off",)
            face = "" if answer.query.face is None else f", face {answer.query.face}"
            yield Group(f"{answer.query.name}{face}", [query, *hits], notes)

    return Report(
        "Search",
        [Section("Queries", groups=groups())],
        tick="select",
        notes=() if calibration is None else (f"verdicts rest on {calibration.describe()}",),
    )


def _hit(hit: Hit, gallery: Gallery, calibration: Calibration | None, root: str | None) -> Picture:
    match = hit.match
    notes = []
    if calibration is not None:
        notes.append(calibration.verdict(match.score))
    if match.face is not None:
        notes.append(f"face {match.face}")
    if hit.hash_distance is not None:
        notes.append(f"hashes differ in {hit.hash_distance} bits")
    if hit.turned:
        notes.append(f"query turned by {hit.turned}°")
    snapshot = gallery.snapshots[match.snapshot]
    return picture_of(
        snapshot, match.key, match.face, root, score=match.score, notes=tuple(notes), ticked=False
    )
