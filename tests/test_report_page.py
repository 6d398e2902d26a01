"""Reports as pages: nothing from elsewhere, names are text, pictures within bounds."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featureid.errors import StorageError, UsageError
from featureid.images import decode_image
from featureid.reports import html, write
from featureid.reports.bars import bar_chart
from featureid.reports.page import Group, Picture, Report, Section
from featureid.reports.thumbnails import SIDE, make_thumbnail
from featureid.reports.write import check_report, write_report
from featureid.storage.records import Face
from tests.image_files import FILES, encode
from tests.report_samples import HOSTILE, make_images, sample_report


class Page(HTMLParser):
    """A page, as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(folder: Path, report: Report) -> str:
    place = folder / "report.html"
    write_report(str(place), report)
    return place.read_text(encoding="utf-8")


def keys_of(text: str) -> list[str]:
    """Return the keys that the script of a page knows."""
    blocks = re.findall(r'<script type="application/json" class="data">(.*?)</script>', text, re.S)
    lines = [json.loads(line) for block in blocks for line in block.splitlines() if line]
    return [key for line in lines for key in line["keys"]]


def of_pictures(*pictures: Picture) -> Report:
    return Report("Pictures", [Section("All", groups=[Group("all", pictures)])])


def test_a_page_holds_all_that_it_shows(tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", [f"{n}.jpg" for n in range(6)])
    text = written(tmp_path, sample_report(paths))
    page = Page(text)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "report.html"}
    assert len(page.of("img")) == 6
    assert all(str(image["src"]).startswith("data:image/jpeg;base64,") for image in page.of("img"))
    assert keys_of(text) == [f"{n}.jpg" for n in range(6)]
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert not re.search(r"https?://", text)


def test_the_policy_allows_the_pages_own_script_and_style_only(tmp_path: Path) -> None:
    text = written(tmp_path, of_pictures())
    (policy,) = (
        meta["content"]
        for meta in Page(text).of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; img-src data: 'self'")


def test_names_are_text(tmp_path: Path) -> None:
    report = sample_report(make_images(tmp_path / "images", HOSTILE), size=2)
    text = written(tmp_path, report)
    page = Page(text)
    plain = Page(written(tmp_path, sample_report(make_images(tmp_path / "more", ["a", "b"]))))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert keys_of(text) == [*HOSTILE]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    shown = "".join(page.texts)
    assert HOSTILE[0] in shown and "\\u202egpj" in shown and "two\\nlines.jpg" in shown


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    text = written(
        tmp_path,
        of_pictures(
            Picture("unknown"),
            Picture("gone", str(tmp_path / "gone.jpg")),
            Picture("text", str(tmp_path / "text.jpg")),
        ),
    )
    missing = re.findall(r'<div class="missing">(.*?)</div>', text)
    assert missing == ["place not known", "not found", "not an image"]


def test_of_a_damaged_photo_what_can_be_seen_is_shown(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "astronaut.png") as astronaut:
        data = encode(astronaut, "JPEG")
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "head.jpg").write_bytes(data[:100])
    (tmp_path / "half.png").write_bytes(FILES["png"][:-40])
    names = "half.jpg", "head.jpg", "half.png"
    made = [make_thumbnail(Picture(name, str(tmp_path / name))) for name in names]
    assert [thumbnail.missing for thumbnail in made] == ["truncated"] * 3
    seen = decode_image(made[0].data).pixels
    assert make_thumbnail(Picture("a", "nosuch://a.jpg")).missing == "unreadable"
    whole = make_thumbnail(Picture("whole", str(tmp_path / "whole.jpg")))
    half = len(seen) // 3
    difference = np.abs(seen[:half].astype(int) - decode_image(whole.data).pixels[:half])
    assert difference.mean() < 2
    assert not (made[1].data or made[2].data)
    text = written(tmp_path, of_pictures(Picture("half", str(tmp_path / "half.jpg"))))
    assert "truncated: what can be seen of it" in text


def test_more_pictures_than_a_page_holds_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(tmp_path / "images", [f"{n}.jpg" for n in range(6)])
    monkeypatch.setattr(write, "PAGE_BYTES", len(make_thumbnail(Picture("0", paths[0])).data) * 2)
    sources = [
        str(image["src"]) for image in Page(written(tmp_path, sample_report(paths))).of("img")
    ]
    beside = [source for source in sources if not source.startswith("data:")]
    assert 3 <= len(beside) < 6
    folder = tmp_path / "report.files"
    assert {tmp_path / source for source in beside} == {*folder.iterdir()}
    # Another report there deletes what nobody needs anymore, and nothing else.
    (folder / "mine.jpg").touch()
    written(tmp_path, sample_report(paths[:1]))
    assert [*folder.iterdir()] == [folder / "mine.jpg"]


def test_of_many_groups_the_later_ones_are_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "STATIC_PICTURES", 4)
    paths = make_images(tmp_path / "images", [*HOSTILE, "a.jpg", "b.jpg"])
    text = written(tmp_path, sample_report(paths, size=2))
    page = Page(text)
    assert len(page.of("article")) == 2 and len(page.of("img")) == 4
    assert keys_of(text) == [*HOSTILE, "a.jpg", "b.jpg"]


def test_pictures_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "MOST_PICTURES", 4)
    paths = make_images(tmp_path / "images", [f"{n}.jpg" for n in range(6)])
    text = written(tmp_path, sample_report(paths))
    assert len(Page(text).of("img")) == 4
    assert text.count('<div class="missing">not shown</div>') == 2


def test_a_report_that_fails_leaves_the_page_before(tmp_path: Path) -> None:
    before = written(tmp_path, of_pictures())

    def broken() -> object:
        yield Group("one", [])
        raise StorageError("a shard is gone")

    with pytest.raises(StorageError, match="a shard is gone"):
        written(tmp_path, Report("Broken", [Section("All", groups=broken())]))  # type: ignore[arg-type]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_thumbnails_are_upright_small_and_cropped(photos: Path) -> None:
    whole = make_thumbnail(Picture("a", str(photos / "astronaut.png")))
    assert (whole.width, whole.height, whole.original) == (SIDE, SIDE, (512, 512))
    box = (179.0, 83.0, 267.0, 171.0)
    crop = make_thumbnail(Picture("a", str(photos / "astronaut.png"), box))
    assert (crop.width, crop.height) == (132, 132)  # 88 pixels and a quarter on each side
    outside = make_thumbnail(Picture("a", str(photos / "astronaut.png"), (600, 600, 700, 700)))
    assert (outside.width, outside.height) == (1, 1)
    drawn = make_thumbnail(Picture("a", str(photos / "astronaut.png"), faces=(Face(0, box),)))
    assert (drawn.width, drawn.height) == (512, 512) and drawn.data != whole.data


@pytest.mark.parametrize("place", ["report", "report.htm", "out/"])
def test_a_place_without_html_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(place))):
        check_report(place)


def test_bars() -> None:
    chart = bar_chart("Images & more", [0, 3, 6], "first", "last").decode()
    assert chart.count("<rect ") == 3 and "Images &amp; more" in chart and "highest: 6" in chart
    assert 'height="0.00"' in chart
    assert bar_chart("None", [0], "only", "only").count(b"only") == 1
