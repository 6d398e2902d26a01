"""What a report shows, of whatever result: sections with facts, tables, plots and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from featureid.storage.records import Face

Box = tuple[float, float, float, float]

#: What the shell script of a selection moves: pictures that are ticked, or all but those.
Moves = Literal["ticked", "unticked"]


@dataclass(frozen=True)
class Picture:
    """An image or a face in a report.

    Attributes:
        key: what the image is called.
        uri: where it is; None if that is not known, so that only the key is shown.
        crop: the part to show, in pixels of the upright original; None for the whole image.
        score: with the first picture of its group; None if it has none.
        notes: short lines below the picture.
        badge: a word on it: ``keep``, ``query``.
        ticked: whether it is selected at first; None if it cannot be.
        faces: what is drawn onto it.
    """

    key: str
    uri: str | None = None
    crop: Box | None = None
    score: float | None = None
    notes: tuple[str, ...] = ()
    badge: str = ""
    ticked: bool | None = None
    faces: tuple[Face, ...] = ()


@dataclass(frozen=True)
class Group:
    """Pictures that belong together.

    Attributes:
        title: what they have in common.
        pictures: the one that the scores refer to first.
        notes: short lines below the title.
    """

    title: str
    pictures: Sequence[Picture]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers below a heading.

    Attributes:
        columns: names of the columns.
        rows: as many cells each.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str | int | float]]


@dataclass(frozen=True)
class Plot:
    """A drawing.

    Attributes:
        svg: the SVG file.
        text: what it shows, for those who do not see it.
    """

    svg: bytes
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a report; what it does not have is left out.

    Attributes:
        title: its heading.
        notes: paragraphs below it.
        facts: names and values.
        tables: shown after the facts.
        plots: shown after the tables.
        groups: shown last, read once, and only as far as they are written.
        wide: whether pictures are shown as large as they are.
    """

    title: str
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    groups: Iterable[Group] = ()
    wide: bool = False


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: its heading, and the title of its window.
        sections: in their order.
        tick: what ticking a picture means, ``keep`` or ``select``; "" if there is nothing to tick.
        moves: what the shell script of a selection moves.
        notes: paragraphs below the title.
    """

    title: str
    sections: Sequence[Section]
    tick: str = ""
    moves: Moves = "ticked"
    notes: tuple[str, ...] = ()


def counted(number: int, noun: str) -> str:
    """Return a number with a regular noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
