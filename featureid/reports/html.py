"""A report as HTML, in pieces that are written as they are made."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from typing import Any

from featureid._version import __version__
from featureid.keys import printable
from featureid.masking import bare_uri
from featureid.reports.page import Group, Picture, Report
from featureid.reports.thumbnails import Thumbnail

#: A picture, what it looks like, and where the page finds that; "" if nowhere.
View = tuple[Picture, Thumbnail, str]
#: Yields groups with their pictures.
Shown = Callable[[Iterable[Group]], Iterator[tuple[Group, list[View]]]]

#: Pictures that are there from the start, and without JavaScript; a browser takes long for more.
#: Those that follow become part of the page as they are scrolled to.
STATIC_PICTURES = 600


def render(report: Report, shown: Shown) -> Iterator[str]:
    """Yield the text of a page."""
    import jinja2  # which only a report needs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("featureid.reports", "assets"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"data_uri": data_uri, "visible": printable}
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    parts = _Parts(environment.get_template("group.html"), shown, report.tick)
    stream: Iterator[str] = environment.get_template("report.html").stream(
        report=report,
        parts=parts.of_section,
        style=style,
        script=script,
        policy=_policy(style, script),
        version=__version__,
    )
    return stream


class _Parts:
    """The groups of all sections, as markup or, after some, as data for the script."""

    def __init__(self, template: Any, shown: Shown, tick: str) -> None:
        self._template = template
        self._shown = shown
        self._tick = tick
        self._static = 0

    def of_section(self, groups: Iterable[Group]) -> Iterator[str]:
        """Yield the groups of a section as markup, and after that what the script knows of them."""
        lines: list[str] = []
        shown = self._shown(groups)
        for group, views in shown:
            markup = self._template.render(group=group, pictures=views, tick=self._tick)
            if self._static < STATIC_PICTURES:
                self._static += len(views)
                lines.append(_data(views))
                yield markup
                continue
            yield _opened(lines)
            yield _data(views, markup)
            for later, pictures in shown:
                yield _data(
                    pictures,
                    self._template.render(group=later, pictures=pictures, tick=self._tick),
                )
            yield "</script>"
            return
        yield _opened(lines) + "</script>"


def _opened(lines: Iterable[str]) -> str:
    return f'</div>\n<script type="application/json" class="data">{"".join(lines)}'


def _data(views: Iterable[View], markup: str = "") -> str:
    """Return a line of JSON for a group, which may stand in a page.

    Args:
        views: its pictures.
        markup: of the group; "" if the page has it already.
    """
    pictures = [picture for picture, _, _ in views]
    data: dict[str, Any] = {
        "keys": [picture.key for picture in pictures],
        "uris": [picture.uri and bare_uri(picture.uri) for picture in pictures],
        "scores": [picture.score for picture in pictures],
        "ticked": [picture.ticked for picture in pictures],
    }
    if markup:
        data["markup"] = markup
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("&", "\\u0026") + "\n"


def _policy(style: str, script: str) -> str:
    """Return a policy by which the page runs its own style and script, and loads nothing else."""
    digests = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    own = "style-src 'sha256-{}'; script-src 'sha256-{}'".format(*digests)
    return f"default-src 'none'; img-src data: 'self'; {own}; base-uri 'none'; form-action 'none'"


def _asset(name: str) -> str:
    return (resources.files("featureid.reports") / "assets" / name).read_text(encoding="utf-8")


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes as a URI that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
