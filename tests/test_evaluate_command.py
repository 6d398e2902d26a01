"""``featureid evaluate`` as a user runs it: which pieces were cut from one photo?"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from featureid.cli import main as cli
from tests.commands import run_here, run_process

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


@pytest.fixture(scope="module")
def place(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of four photos, with four pieces of it; one file is not an image."""
    place = tmp_path_factory.mktemp("evaluate")
    for name in PHOTOS:
        folder = place / "pieces" / name
        folder.mkdir(parents=True)
        with Image.open(next((photos / "small").glob(f"{name}.*"))) as image:
            for number in range(4):
                left, top = 60 * (number % 2), 40 * (number // 2)
                piece = image.crop((left, top, left + 80, top + 80))
                piece.save(folder / f"{name}_{number + 1:04d}.png")
    (place / "pieces" / "rocket" / "rocket_0004.png").write_text("not an image")
    (place / "pieces" / "notes.txt").write_text("in no folder of a class")
    rows = [(path, path.parent.name) for path in sorted(place.glob("pieces/*/*"))]
    (place / "labels.csv").write_text("path,label\n" + "".join(f"{p},{c}\n" for p, c in rows))
    same = "".join(f"{name}\t1\t2\n{name}\t2\t4\n" for name in PHOTOS)
    different = "".join(f"astronaut\t{n}\t{name}\t{n}\n" for name in PHOTOS[1:] for n in (1, 4))
    (place / "pairs.txt").write_text(f"8\n{same}{different}")
    pieces = str(place / "pieces")
    embed = ["embed", pieces, "--output", str(place / "out"), "--strip-prefix", pieces]
    assert cli.main([*embed, "--log-level=error"]) == 0
    return place


def evaluated(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_here(capsys, "evaluate", *argv, "--json"))
    return found


def test_folders_tables_and_snapshots_agree(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = evaluated(capsys, place / "pieces")
    assert (folders["images"], folders["embedded"], folders["failed"]) == (16, 15, 1)
    assert (folders["classes"], folders["same_pairs"], folders["different_pairs"]) == (4, 24, 96)
    assert [failure["key"] for failure in folders["failures"]] == ["rocket/rocket_0004.png"]
    low, high = folders["auc"]["interval"]
    assert low <= folders["auc"]["value"] <= high and folders["auc"]["value"] > 0.8
    assert folders["rank1"]["value"] > 0.7
    tar = folders["tar"]
    assert [*tar] == ["0.1", "0.01", "0.001", "0.0001", "1e-05"]
    assert tar["0.1"]["false_accepts"] == 9.6 and tar["0.01"]["value"] is None
    assert len(folders["hardest_same"]) == len(folders["hardest_different"]) == 10
    for argv in (
        [place / "labels.csv"],
        [place / "out"],
        [place / "out", "--labels", place / "labels.csv"],
    ):
        found = evaluated(capsys, *argv)
        for name in ("auc", "eer", "tar", "rank1", "precision", "pairs", "failures_by_reason"):
            assert found[name] == folders[name], (argv, name)


def test_pairs_are_compared_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces, pairs = place / "pieces", place / "pairs.txt"
    found = evaluated(capsys, pieces, "--pairs", pairs)
    assert (found["same_pairs"], found["different_pairs"], found["images"]) == (8, 6, 12)
    assert (found["failed"], found["rank1"], found["precision"]) == (1, None, None)
    assert found["folds"] == 10 or found["folds"] == 8
    assert found["deviation"] >= 0 and found["accuracy"]["value"] > 0.5
    table = place / "pairs.csv"
    table.write_text("first,second,same\nchelsea/chelsea_0001.png,chelsea/chelsea_0002.png,1\n")
    with table.open("a") as file:
        file.write(f"{pieces}/coffee/coffee_0001.png,chelsea/chelsea_0002.png,0\n")
    assert evaluated(capsys, place / "out", "--pairs", table)["pairs"] == 2


def test_text_says_what_the_figures_rest_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run_here(capsys, "evaluate", place / "pieces")
    assert "16 images of 4 classes: 24 pairs of one class, 96 of two" in text
    assert "1 without a feature ID, which count as rejected: 1 not-an-image" in text
    assert "weak: about 10 false accepts" in text
    assert "not given: 0.96 false accepts are expected, fewer than 3" in text
    assert "4 classes are few" in text
    assert "hardest pairs of two:" in text


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="the extra `report`")
def test_a_report_has_plots(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(capsys, place / "out", "--report", place / "report")
    names = ["index.html", "report.json", "roc.png", "roc.svg", "scores.png", "scores.svg"]
    assert sorted(path.name for path in (place / "report").iterdir()) == names
    assert json.loads((place / "report" / "report.json").read_text("utf-8")) == found
    page = (place / "report" / "index.html").read_text("utf-8")
    assert page.count("data:image/svg+xml") == 2 and page.count("data:image/jpeg") >= 4
    with Image.open(place / "report" / "roc.png") as image:
        assert image.width > 500


@pytest.mark.skipif(bool(importlib.util.find_spec("matplotlib")), reason="matplotlib is there")
def test_a_report_needs_matplotlib(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = run_here(capsys, "evaluate", place / "out", "--report", place / "report", status=2)
    assert "a --report needs matplotlib; run: pip install 'featureid[report]'" in line


def test_it_runs_as_a_process(place: Path) -> None:
    assert run_process("evaluate", "out", folder=place).startswith("16 images of 4 classes")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["out", "--model=image"], "a snapshot has a model of its own; leave out --model"),
        (["labels.csv", "--labels=labels.csv"], "has labels of its own; leave out --labels"),
        (["pieces/rocket"], "no image is in a folder of its class; give --labels, a table of"),
        (["out", "--pairs=pairs.txt", "--labels=labels.csv"], "leave out --labels"),
        (["nowhere"], "input 'nowhere': no such file or folder"),
        (["out", "-k", "0"], "--k is 0; give 1 or more"),
        (["out", "--labels=other.csv"], "none of the 1 labeled images is there, such as 'x.jpg'"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    argv: list[str],
    message: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    (place / "other.csv").write_text("path,label\nx.jpg,a\n")
    assert message in run_here(capsys, "evaluate", *argv, status=2)
