"""How long a report of many groups takes to write and to open, and how much memory.

    python benchmarks/report.py [--groups N] [--json]

Groups of three photos, which are links to 200 different files, are written as a page with its
pictures beside it.  ``thumbnails_s`` is the wall time of making the pictures alone, ``beyond_s``
what writing the report takes beyond that; ``ratio`` is the whole in units of the pictures alone.
``open_s`` is what headless Chromium takes to load the page beyond an empty one; it is left out if
Chromium is not installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import common

from featureid.parallel import map_in_order
from featureid.reports.page import Group, Picture, Report, Section
from featureid.reports.thumbnails import make_thumbnail
from featureid.reports.write import write_report

_IN_GROUP = 3
_EMPTY = "<!doctype html><title>empty</title>"


def main() -> None:
    """Run the benchmark."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--groups", type=int, default=10_000, help="default: %(default)s")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.make_images(folder / "images", arguments.groups * _IN_GROUP)
        paths = sorted(map(str, (folder / "images").iterdir()))
        started = time.perf_counter()
        for _ in map_in_order(make_thumbnail, [Picture(path, path) for path in paths]):
            pass
        thumbnails = time.perf_counter() - started
        page = folder / "report.html"
        started = time.perf_counter()
        sections = [Section("Groups", groups=groups_of(paths))]
        write_report(str(page), Report("Duplicates", sections, tick="keep", moves="unticked"))
        written = time.perf_counter() - started
        result = {
            "groups": arguments.groups,
            "thumbnails_s": thumbnails,
            "beyond_s": written - thumbnails,
            "ratio": written / thumbnails,
            "page_mb": page.stat().st_size / 1e6,
            "peak_mb": common.peak_mb(),
        }
        opened = open_seconds(page)
        if opened is not None:
            result["open_s"] = opened
    common.print_result(result, arguments.json)


def groups_of(paths: list[str]) -> Iterator[Group]:
    """Yield the groups."""
    for start in range(0, len(paths), _IN_GROUP):
        pictures = [
            Picture(path, path, score=1 - 0.01 * place, notes=("640 kB",), ticked=place == 0)
            for place, path in enumerate(paths[start : start + _IN_GROUP])
        ]
        yield Group(f"Group {start // _IN_GROUP + 1}: 3 images", pictures)


def open_seconds(page: Path) -> float | None:
    """Return how long Chromium takes to load a page; None if there is no Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        return None
    empty = page.with_name("empty.html")
    empty.write_text(_EMPTY, encoding="utf-8")

    def load(place: Path) -> float:
        picture = f"--screenshot={page.with_name('page.png')}"
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", picture]
        started = time.perf_counter()
        subprocess.run([*command, place.as_uri()], capture_output=True, check=True)
        return time.perf_counter() - started

    load(empty)  # the first start reads the program from the disk
    return load(page) - load(empty)


if __name__ == "__main__":
    main()
