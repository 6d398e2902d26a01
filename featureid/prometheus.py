"""Prometheus' text format, as far as gauges need it.

See https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Gauge:
    """A gauge with one sample or more.

    Attributes:
        name: of the metric, with its unit: ``featureid_run_duration_seconds``.
        help: one sentence.
        samples: the labels and the value of each sample; no two have the same labels.
    """

    name: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


def to_text(gauges: Iterable[Gauge]) -> str:
    """Return gauges in the text format; those without samples are left out."""
    lines = []
    for gauge in gauges:
        if gauge.samples:
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
            lines += [f"{series(gauge.name, labels)} {value}" for labels, value in gauge.samples]
    return "".join(f"{line}\n" for line in lines)


def series(name: str, labels: Labels) -> str:
    """Return the name and the labels of a sample, as its line begins."""
    return f"{name}{{{','.join(f'{key}={_quoted(labels[key])}' for key in sorted(labels))}}}"


def find_value(text: str, name: str, labels: Labels) -> float | None:
    """Return the value of a sample in a text of :func:`to_text`; None if it has no such sample."""
    start = f"{series(name, labels)} "
    for line in text.split("\n"):
        if line.startswith(start):
            try:
                return float(line.removeprefix(start))
            except ValueError:
                return None
    return None


def _quoted(value: str) -> str:
    r"""Return the value of a label; bytes of a path that are not UTF-8 become ``\\udce9``."""
    unicode = value.encode("utf-8", "backslashreplace").decode()
    escaped = unicode.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'"{escaped}"'
