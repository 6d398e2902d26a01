"""Small tables as HTML, by which notebooks show results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from featureid.keys import printable

#: Rows of a long result that a notebook shows.
SHOWN_ROWS = 50


def html_table(
    rows: Iterable[Iterable[object]], columns: Sequence[str] = (), note: str = ""
) -> str:
    """Return a table as HTML in which every name is text.

    Args:
        rows: as many cells each.
        columns: their names; empty for a table of names and values.
        note: a line below it.
    """
    cells = ("".join(f"<td>{escape(printable(_text(cell)))}</td>" for cell in row) for row in rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    below = f"<p>{escape(printable(note))}</p>" if note else ""
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table>{top}<tbody>{body}</tbody></table>{below}"


def _text(cell: object) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
