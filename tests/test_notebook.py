"""What a notebook shows of images and results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featureid
from featureid.errors import ImageError, UsageError
from featureid.html_table import SHOWN_ROWS, html_table
from featureid.matching.gallery import KeysAndScores


def test_show(photos: Path) -> None:
    image = Image.new("RGB", (30, 20))
    shown = featureid.show(str(photos / "coffee.png"), image, np.zeros((5, 5, 3), np.uint8))
    html = shown._repr_html_()
    assert html.count("<img src=") == 3 and "coffee.png" in html
    named = featureid.show(image, image, captions=["<b>", 0.98765])._repr_html_()
    assert "&lt;b&gt;" in named and "0.9877" in named and "<b>" not in named


def test_show_refuses(tmp_path: Path) -> None:
    image = Image.new("RGB", (3, 2))
    with pytest.raises(UsageError, match="201 images are too many"):
        featureid.show(*[image] * 201)
    with pytest.raises(UsageError, match="`captions` are 1, and there are 2"):
        featureid.show(image, image, captions=["one"])
    with pytest.raises(ImageError, match="gone"):
        featureid.show(str(tmp_path / "gone.jpg"))
    with pytest.raises(UsageError, match="not as int"):
        featureid.show(3)  # type: ignore[arg-type]


def test_tables() -> None:
    html = html_table([("a<b", 1, 0.5)], ("key", "n", "score"), "note & more")
    assert html == (
        "<table><thead><tr><th>key</th><th>n</th><th>score</th></tr></thead>"
        "<tbody><tr><td>a&lt;b</td><td>1</td><td>0.5000</td></tr></tbody></table>"
        "<p>note &amp; more</p>"
    )


def test_results() -> None:
    keys = [[f"{n}" for n in range(SHOWN_ROWS)], ["last"]]
    scores = [np.ones(SHOWN_ROWS, np.float32), np.ones(1, np.float32)]
    html = KeysAndScores(keys, scores)._repr_html_()
    assert html.count("<tr>") == SHOWN_ROWS + 1 and "and 1 more" in html and "1.0000" in html
