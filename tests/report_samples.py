"""Reports of made-up images, with names that try to be more than names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from featureid.keys import readable
from featureid.reports.page import Group, Picture, Report, Section, Table

#: Names that would be markup, a script, an attribute, or another name in another direction.
HOSTILE = (
    "<script>document.title='owned'<!--.jpg",
    '"><img src=x onerror="document.title=1">.jpg',
    "it's $(touch owned) `touch owned`.jpg",
    "{{ 7*7 }}.jpg",
    "\u202egpj.exe.jpg",
    "two\nlines.jpg",
    "&amp;.jpg",
)


def make_images(folder: Path, names: tuple[str, ...] | list[str]) -> list[str]:
    """Write small JPEGs of different colors; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, name in enumerate(names):
        color = tuple(np.random.default_rng(number).integers(0, 256, 3).tolist())
        path = folder / name
        Image.new("RGB", (48, 32), color).save(path, "JPEG")
        paths.append(str(path))
    return paths


def groups_of(paths: list[str], size: int) -> Iterator[Group]:
    """Yield groups of ``size`` images, the first of which is ticked."""
    for start in range(0, len(paths), size):
        pictures = [
            Picture(
                readable(Path(path).name),
                path,
                score=1 - 0.01 * place - 0.0001 * start,
                notes=("a note",),
                ticked=place == 0,
            )
            for place, path in enumerate(paths[start : start + size])
        ]
        yield Group(f"Group {start // size + 1}", pictures)


def sample_report(paths: list[str], size: int = 3) -> Report:
    """Return a report with everything that a page can have."""
    return Report(
        "Sample",
        [
            Section(
                "Facts", facts=(("Name", HOSTILE[0]),), tables=(Table(("A", "B"), [("x", 1)]),)
            ),
            Section("Groups", groups=groups_of(paths, size)),
        ],
        tick="keep",
        moves="unticked",
        notes=("A page.",),
    )
