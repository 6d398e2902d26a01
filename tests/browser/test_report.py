"""Reports in a real browser, Chromium, opened from the disk."""

import csv
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from featureid.reports import write
from featureid.reports.write import write_report
from tests.report_samples import HOSTILE, make_images, sample_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
AXE = Path(os.environ["AXE"])
# Until something is there, however loaded the machine is.
expect.set_options(timeout=60_000)


@dataclass
class Opened:
    """A page, and all that it did not like or asked for."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def shown(self) -> list[str]:
        """Return the titles of the groups that can be seen, in their order."""
        titles: list[str] = self.page.locator(".group h3").all_text_contents()
        return titles

    def export(self, kind: str) -> str:
        with self.page.expect_download() as download:
            self.page.click(f"[data-export={kind}]")
        return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser: Browser, place: Path, **options: object) -> Opened:
    page = browser.new_context(accept_downloads=True, **options).new_page()
    found = Opened(page)
    page.on("console", lambda message: found.messages.append(message.text))
    page.on("pageerror", lambda error: found.messages.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(place.as_uri())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    paths = make_images(folder / "images", [*HOSTILE, "a.jpg", "b.jpg"])
    place = folder / "report.html"
    write_report(str(place), sample_report(paths, size=3))
    return place


def test_it_opens_from_the_disk_and_asks_for_nothing(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    assert found.messages == []
    assert {url.split(":")[0] for url in found.requests} <= {"file", "data"}
    assert [url for url in found.requests if url.startswith("file:")] == [place.as_uri()]
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert found.page.evaluate(loaded)
    assert found.page.locator("#tools").is_visible()
    assert "3 of 3 groups, 3 to keep" in found.page.inner_text("#count")


def test_hostile_names_stay_text(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    assert found.page.title() == "Sample"
    assert found.page.locator("figure script, figcaption img").count() == 0
    assert HOSTILE[0] in found.page.inner_text("main")


def test_it_filters_by_name_and_score(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    found.page.fill("#name", "ONERROR")
    assert found.shown() == ["Group 1"]
    found.page.fill("#name", "")
    found.page.fill("#least", "0.9997")
    assert found.shown() == ["Group 1", "Group 2"]
    found.page.fill("#most", "0.9998")
    assert found.shown() == ["Group 2"]
    assert "1 of 3 groups" in found.page.inner_text("#count")


def test_it_sorts(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    found.page.select_option("#order", "low")
    assert found.shown() == ["Group 3", "Group 2", "Group 1"]
    found.page.select_option("#order", "")
    assert found.shown() == ["Group 1", "Group 2", "Group 3"]


def test_the_selection_is_exported(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    found.page.locator(".group").nth(2).locator("input").nth(1).check()
    rows = json.loads(found.export("json"))
    assert [row["key"] for row in rows] == [*HOSTILE, "a.jpg", "b.jpg"]
    assert [row["keep"] for row in rows] == [True, False, False] * 2 + [True, True, False]
    assert [row["uri"] for row in rows[-2:]] == [
        str(place.parent / "images" / name) for name in ("a.jpg", "b.jpg")
    ]
    table = [*csv.DictReader(io.StringIO(found.export("csv"), newline=""))]
    assert [(row["key"], row["keep"] == "true") for row in table] == [
        (row["key"], row["keep"]) for row in rows
    ]


def test_the_script_moves_what_is_not_kept(browser: Browser, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 'x'.jpg")
    paths = make_images(tmp_path / "images", ["keep.jpg", *HOSTILE, odd, "-n.jpg"])
    write_report(str(tmp_path / "report.html"), sample_report(paths, size=len(paths)))
    found = opened(browser, tmp_path / "report.html")
    found.page.click("[data-export=sh]")
    assert "Name the folder" in found.page.inner_text("#count")
    found.page.fill("#target", str(tmp_path / "moved it's"))
    script = found.export("sh")
    before = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["keep.jpg"]
    after = {path.name: path.read_bytes() for path in (tmp_path / "moved it's").iterdir()}
    assert len(after) == len(before) - 1
    assert sorted(after.values()) == sorted(
        data for name, data in before.items() if name != "keep.jpg"
    )
    assert not (tmp_path / "owned").exists()


def test_it_obeys_the_keyboard(browser: Browser, place: Path) -> None:
    found = opened(browser, place)
    found.page.keyboard.press("j")
    found.page.keyboard.press("j")
    assert found.page.locator(".group.current h3").inner_text() == "Group 2"
    found.page.keyboard.press("2")
    assert found.page.locator(".group.current input").nth(1).is_checked()
    found.page.keyboard.press("/")
    found.page.keyboard.type("b.jpg")
    assert found.shown() == ["Group 3"]


def test_pictures_beside_the_page_are_loaded_as_they_come_into_view(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PAGE_BYTES", 0)
    paths = make_images(tmp_path / "images", [f"{n:04}.jpg" for n in range(1200)])
    write_report(str(tmp_path / "report.html"), sample_report(paths))
    found = opened(browser, tmp_path / "report.html")
    expect(found.page.locator("img").first).to_have_js_property("naturalWidth", 48)
    first = [url for url in found.requests if ".files/" in url]
    assert 0 < len(first) < 400 and found.messages == []
    groups = found.page.locator(".group")
    assert groups.count() < 400
    for _ in range(1000):
        if groups.count() >= 400:
            break
        # It may be pressed before the groups that were just added have a height: then once more.
        found.page.keyboard.press("End")
        found.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert groups.count() >= 400
    groups.last.scroll_into_view_if_needed()
    expect(found.page.locator("img").last).to_have_js_property("naturalWidth", 48)


def test_the_main_content_needs_no_script(browser: Browser, place: Path) -> None:
    page = opened(browser, place, java_script_enabled=False).page
    assert page.locator(".group").count() == 3 and not page.locator("#tools").is_visible()
    assert page.locator("figure img").first.is_visible()


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_is_accessible(
    browser: Browser, place: Path, width: int, scheme: str, tmp_path: Path
) -> None:
    size = {"width": width, "height": 900}
    page = opened(browser, place, viewport=size, color_scheme=scheme).page
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0
    # The policy of the page would refuse a script tag.
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    serious = [
        (rule["id"], rule["nodes"][0]["html"])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []
    kept = os.environ.get("SCREENSHOTS")
    if kept:
        page.screenshot(path=str(Path(kept) / f"report-{width}-{scheme}.png"))


def test_ten_thousand_groups_open(browser: Browser, tmp_path: Path) -> None:
    paths = make_images(tmp_path / "images", [f"{n}.jpg" for n in range(30)]) * 1000
    write_report(str(tmp_path / "report.html"), sample_report(paths))
    started = time.perf_counter()
    found = opened(browser, tmp_path / "report.html")
    print(f"opened in {time.perf_counter() - started:.2f} s")
    assert "10000 of 10000 groups" in found.page.inner_text("#count")
