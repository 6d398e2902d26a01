"""Make the pictures of docs/report.md from the pages of the demo; needs Chromium.

Run from the project's root, after ``make demo``: ``python docs/make_report_pictures.py``.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from PIL import Image

DOCS, DEMO = Path("docs"), Path("demo").absolute()
# Page of the demo -> picture, width and height.
PICTURES = {
    "duplicates.html": ("report-duplicates.png", 1200, 720),
    "report.html": ("report-snapshot.png", 500, 720),
}


def main() -> None:
    """Make the pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "Chromium is not installed"
    for page, (name, width, height) in PICTURES.items():
        place = DOCS / name
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--screenshot={place}"]
        uri = (DEMO / page).as_uri()
        subprocess.run([chromium, *options, f"--window-size={width},{height}", uri], check=True)
        # A palette is enough for a document, and a third of the size.
        Image.open(place).convert("RGB").quantize(256).save(place, optimize=True)


if __name__ == "__main__":
    main()
