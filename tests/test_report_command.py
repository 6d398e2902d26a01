"""Pages to look at, from every command that has a result with images."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import featureid
from featureid.cli import main as cli

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: object, status: int = 0) -> str:
        assert cli.main([str(word) for word in argv]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return run


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, some twice, and a snapshot of it."""
    folder = tmp_path_factory.mktemp("reports")
    shutil.copytree(photos / "small", folder / "photos")
    shutil.copy(folder / "photos" / "coffee.jpg", folder / "photos" / "coffee copy.jpg")
    (folder / "photos" / "text.jpg").write_text("not an image")
    command = ["embed", str(folder / "photos"), "--output", str(folder / "out")]
    assert cli.main([*command, "--strip-prefix", str(folder / "photos")]) == 0
    return folder


def pictures(place: Path) -> int:
    return len(re.findall(r'<img src="data:image/jpeg', place.read_text(encoding="utf-8")))


def test_duplicates(run: Run, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "duplicates.html"
    out = run("duplicates", folder / "out", "--report", place)
    assert out.splitlines()[-1] == f"report: {place}"
    text = place.read_text(encoding="utf-8")
    assert pictures(place) == 2 and "same bytes as the one to keep" in text
    assert text.count('type="checkbox" checked') == 1 and 'data-moves="unticked"' in text


def test_search(run: Run, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "search.html"
    query = folder / "photos" / "coffee.jpg"
    run("search", folder / "out", "--query", query, "-k", 3, "--report", place, "--json")
    assert pictures(place) == 4 and "<strong>query</strong>" in place.read_text(encoding="utf-8")


def test_a_snapshot_and_its_failures(run: Run, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "snapshot.html"
    found = json.loads(run("report", folder / "out", "--output", place, "--json"))
    assert found["report"] == str(place)
    text = place.read_text(encoding="utf-8")
    assert pictures(place) == 7 and "not-an-image: 1 image<" in text
    # A snapshot that was moved, and the images with it.
    moved = tmp_path / "moved"
    shutil.copytree(folder / "photos", moved)
    (snapshot,) = (folder / "out" / "snapshots").iterdir()
    shutil.copytree(snapshot, tmp_path / "elsewhere")
    run("report", tmp_path / "elsewhere", "--output", place, "--root", moved)
    assert pictures(place) == 7
    run("report", tmp_path / "elsewhere", "--output", place, "--root", tmp_path / "nowhere")
    assert pictures(place) == 0 and "not found" in place.read_text(encoding="utf-8")


def test_a_notebook_shows_a_snapshot(folder: Path) -> None:
    html = featureid.open_snapshot(folder / "out")._repr_html_()
    assert "<td>8: 7 embedded, 1 failed</td>" in html


def test_the_runs_before(run: Run, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    shutil.copytree(folder / "photos", tmp_path / "photos")
    for name in ("coffee.jpg", "rocket.jpg"):
        (tmp_path / "photos" / name).unlink()
        command = ["embed", tmp_path / "photos", "--output", tmp_path / "out"]
        run(*command, "--strip-prefix", tmp_path / "photos", "--max-deleted", "100%")
    run("report", tmp_path / "out", "--output", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("1 deleted") >= 1 and text.count("image/svg+xml") == 3


def test_results_of_beam(run: Run, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    run("group", folder / "out", "--output", tmp_path / "groups")
    run("report", tmp_path / "groups", "--output", place)
    assert pictures(place) == 2 and "same bytes as the one to keep" in place.read_text("utf-8")
    matches = ["--query", folder / "out", "-k", 2, "--output", tmp_path / "matches"]
    run("match", folder / "out", *matches)
    found = json.loads(run("report", tmp_path / "matches", "--output", place, "--json"))
    assert found["result"] and pictures(place) == 7 * 3


def test_compare_and_faces(run: Run, photos: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    run("compare", photos / "coffee.png", photos / "small" / "coffee.jpg", "--report", place)
    assert pictures(place) == 2 and "cosine 0." in place.read_text(encoding="utf-8")
    run("faces", photos / "astronaut.png", "--report", place)
    assert pictures(place) == 2


def test_people(run: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    shutil.copy(photos / "astronaut.png", tmp_path / "known" / "Eileen.png")
    shutil.copy(photos / "coffee.png", tmp_path / "known" / "Cup.png")
    place = tmp_path / "page.html"
    words = ["--model", "image", "--threshold", 0.8, "--report", place]
    small = photos / "small"
    run("identify", tmp_path / "known", small / "astronaut.jpg", small / "rocket.jpg", *words)
    text = place.read_text(encoding="utf-8")
    assert pictures(place) == 4 and text.index("Eileen: 1 face") < text.index("Unknown: 1 face")


def test_a_difference(run: Run, folder: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "rocket.jpg").unlink()
    shutil.copy(photos / "small" / "rocket.jpg", tmp_path / "photos" / "new.jpg")
    where = ["--output", tmp_path / "out", "--strip-prefix", tmp_path / "photos"]
    run("embed", tmp_path / "photos", *where)
    place = tmp_path / "page.html"
    run("diff", folder / "out", tmp_path / "out", "--report", place)
    text = place.read_text(encoding="utf-8")
    assert pictures(place) == 2 and "New: 1 row<" in text and "Gone: 1 row<" in text
    other = ["--output", tmp_path / "int8", *where[2:], "--model=image-int8"]
    run("embed", tmp_path / "photos", *other)
    run("diff", tmp_path / "out", tmp_path / "int8", "--report", place, "--k", 3)
    assert pictures(place) == 7 * (1 + 5 + 5)  # each with its nearest by both models


@pytest.mark.parametrize(
    "command",
    [
        ["report", "OUT", "--output", "page.htm"],
        ["duplicates", "OUT", "--report", "page"],
        ["search", "OUT", "--query", "a.jpg", "--report", "page"],
        ["compare", "a.jpg", "b.jpg", "--report", "page"],
        ["faces", "a.jpg", "--report", "page"],
        ["diff", "OUT", "OUT", "--report", "page"],
        ["identify", "OUT", "OUT", "--report", "page"],
    ],
    ids=lambda command: command[0],
)
def test_a_place_that_is_no_page_is_refused(run: Run, folder: Path, command: list[str]) -> None:
    words = [str(folder / "out") if word == "OUT" else word for word in command]
    assert "ends in .html" in run(*words, status=2)


def test_as_a_process(folder: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "featureid", "report", str(folder / "out"), "--output"]
    done = subprocess.run([*program, str(tmp_path / "r.html")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"report: {tmp_path / 'r.html'}\n"
    done = subprocess.run(
        [*program, str(tmp_path / "no" / "r.html")], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Cannot write" in done.stderr
