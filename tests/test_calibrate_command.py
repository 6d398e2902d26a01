"""``featureid calibrate`` as a user runs it, and the commands that judge by its result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from featureid.cli import main as cli
from tests.commands import run_here, run_process

COMPARE = ("compare", "pieces/coffee/0.png", "pieces/coffee/1.png")
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "camera")


@pytest.fixture(scope="module")
def place(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with pieces of a photo each, and a snapshot of them."""
    place = tmp_path_factory.mktemp("calibrate")
    for name in PHOTOS:
        folder = place / "pieces" / name
        folder.mkdir(parents=True)
        with Image.open(next((photos / "small").glob(f"{name}.*"))) as image:
            for number in range(4):
                left, top = 60 * (number % 2), 40 * (number // 2)
                image.crop((left, top, left + 80, top + 80)).save(folder / f"{number}.png")
    pieces = str(place / "pieces")
    embed = ["embed", pieces, "--output", str(place / "out"), "--strip-prefix", pieces]
    assert cli.main([*embed, "--log-level=error"]) == 0
    return place


def test_calibrated_commands_judge_by_ones_own_threshold(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, pieces = place / "out", place / "pieces"
    found: dict[str, Any] = json.loads(
        run_here(capsys, "calibrate", out, "--far", "0.05", "--json")
    )
    (level,) = found["levels"]
    assert found["file"] == f"{found['folder']}.calibration" and level["name"] == "same"
    assert level["far"]["value"] <= 0.05 and found["population"]["different_pairs"] == 160
    threshold = level["threshold"]
    searched = json.loads(
        run_here(capsys, "search", out, "--query", pieces / "rocket", "-k", "20", "--json")
    )
    assert searched["calibration"]["levels"] == [level]
    for hit in (hit for result in searched["results"] for hit in result["hits"]):
        assert (hit["verdict"] == "same") == (hit["score"] >= threshold)
    groups = json.loads(run_here(capsys, "duplicates", out, "--json"))
    assert groups["threshold"] == threshold
    assert groups["false_positive_rate"] == level["far"]["value"]
    argv = "identify", out, pieces / "coffee" / "1.png", "--json"
    identified = json.loads(run_here(capsys, *argv))
    assert identified["threshold"] == threshold
    assert identified["results"][0]["person"] == "coffee"
    pair = [pieces / "coffee" / "1.png", pieces / "rocket" / "1.png"]
    argv = "compare", *pair, "--calibration", found["file"], "--prior", "0.5", "--json"
    compared = json.loads(run_here(capsys, *argv))
    assert compared["verdict"] == "different" and 0 < compared["probability"] < 0.5
    copied = [pair[0], pair[0], "--calibration", found["file"]]
    lines = run_here(capsys, "compare", *copied).splitlines()
    assert lines[-2].startswith("same: ") and "of pairs of different images or people" in lines[-2]
    assert lines[-1].startswith("this rests on ") and "20 labeled images of" in lines[-1]


def test_text_says_what_it_rests_on(place: Path) -> None:
    table = place / "labels.csv"
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name}" for path in place.glob("pieces/*/*")
    ]
    table.write_text("path,label\n" + "\n".join(rows))
    shutil.copytree(place / "out", place / "copy")
    text = run_process("calibrate", "copy", "--labels", "labels.csv", "--far=0.05", folder=place)
    assert ".calibration: threshold 0." in text
    assert "weak: the rate rests on about 8 false accepts; 30 are enough" in text
    assert "5 people or classes are few" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["calibrate", "out", "--far=0.001"], "--far is 0.001, of which 160 pairs"),
        (["calibrate", "out", "--far=2"], "--far is 2.0; give a share of pairs"),
        (["calibrate", "out", "--far=0.05", "--cohort=out"], "20 images of the --cohort out are"),
        (
            [*COMPARE, "--model=image-int8", "--calibration=my.calibration"],
            "is of another model than what is compared: image sha256:",
        ),
        (
            [*COMPARE, "--prior=0"],
            "--prior is 0.0; give a probability between 0 and 1",
        ),
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
    (file,) = place.glob("out/snapshots/*.calibration")
    shutil.copy(file, place / "my.calibration")
    assert message in run_here(capsys, *argv, status=2)
