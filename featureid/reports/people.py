"""A report of people who were named: each face beside the known picture that it is most like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from featureid.matching.people import Likeness
from featureid.queries import Query
from featureid.reports.page import Group, Picture, Report, Section, counted


def people_report(
    named: Iterable[tuple[Query, Likeness]], known: Sequence[Query], threshold: float
) -> Report:
    """Return a report of people who were named.

    Args:
        named: each face, and whom it is most like.
        known: the pictures of known people.
        threshold: the lowest score that names somebody.
    """
    pictures = {query.name: query for query in known}
    people: dict[str, list[Group]] = defaultdict(list)
    for query, likeness in named:
        sure = likeness.score >= threshold
        nearest = pictures[likeness.key]
        group = Group(
            query.name if query.face is None else f"{query.name}, face {query.face}",
            [
                Picture(query.name, query.uri, query.box, ticked=False),
                Picture(
                    nearest.name,
                    nearest.uri,
                    nearest.box,
                    likeness.score,
                    badge=likeness.person,
                    notes=() if sure else ("below the threshold",),
                ),
            ],
        )
        people[likeness.person if sure else ""].append(group)
    sections = [
        Section(f"{person or 'Unknown'}: {counted(len(groups), 'face')}", groups=groups)
        # Those whom nobody is like come last.
        for person, groups in sorted(people.items(), key=lambda item: (not item[0], item[0]))
    ]
    notes = (f"Named are faces with a score of {threshold} or more.",)
    return Report("People", sections, tick="select", notes=notes)
