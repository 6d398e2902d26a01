"""Bar charts as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from featureid.keys import printable

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 720, 200, 30, 24
_INK, _SOFT, _FILL = "#1b1d21", "#565c66", "#0b57d0"


def bar_chart(title: str, values: Sequence[float], first: str, last: str) -> bytes:
    """Return a bar chart, with the highest value and the names of the first and last bar.

    Args:
        title: what the bars are.
        values: 0 or more each, at least one.
        first: name of the first bar.
        last: name of the last bar.
    """
    highest = max(values)
    room, step = _HEIGHT - _TOP - _BOTTOM, _WIDTH / len(values)
    base = _HEIGHT - _BOTTOM
    bars = [
        f'<rect x="{number * step:.2f}" y="{base - height:.2f}" width="{max(0.5, step * 0.8):.2f}" '
        f'height="{height:.2f}" fill="{_FILL}"><title>{value:,.10g}</title></rect>'
        for number, value in enumerate(values)
        for height in [room * value / highest if highest else 0]
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 0 {_WIDTH + 16} {_HEIGHT}" '
        f'width="{_WIDTH}" font-family="sans-serif" font-size="13">',
        f'<text y="18" fill="{_INK}">{_text(title)}</text>',
        f'<text x="{_WIDTH}" y="18" text-anchor="end" fill="{_SOFT}">'
        f"highest: {highest:,.10g}</text>",
        *bars,
        f'<path d="M0 {base}H{_WIDTH}" stroke="{_SOFT}"/>',
        f'<text y="{_HEIGHT - 6}" fill="{_SOFT}">{_text(first)}</text>',
    ]
    if len(values) > 1:
        lines.append(
            f'<text x="{_WIDTH}" y="{_HEIGHT - 6}" text-anchor="end" fill="{_SOFT}">'
            f"{_text(last)}</text>"
        )
    return "\n".join([*lines, "</svg>"]).encode()


def _text(text: str) -> str:
    return escape(printable(text))
