"""``featureid identify`` as a user runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def featureid(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featureid", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def place(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of an astronaut, of a cat, and of neither."""
    place = tmp_path_factory.mktemp("identify")
    for folder in ("known/Eileen", "pets", "unknown"):
        (place / folder).mkdir(parents=True)
    astronaut = Image.open(photos / "astronaut.png")
    astronaut.save(place / "known" / "Eileen" / "1.jpg")
    astronaut.crop((100, 0, 400, 300)).save(place / "unknown" / "portrait.png")
    cat = Image.open(photos / "small" / "chelsea.jpg")
    cat.save(place / "pets" / "Chelsea 1.png")
    cat.crop((8, 8, cat.width - 8, cat.height)).save(place / "pets" / "Chelsea 2.png")
    cat.resize((cat.width // 2, cat.height // 2)).save(place / "unknown" / "cat.png")
    shutil.copy(photos / "small" / "rocket.jpg", place / "unknown")
    return place


def identify(place: Path, *argv: str) -> dict[str, Any]:
    done = featureid(place, "identify", *argv, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_face_is_named_and_an_image_without_one_costs_no_other(place: Path) -> None:
    found = identify(place, "known", "unknown")
    (result,) = found["results"]
    assert result.pop("query").endswith("/unknown/portrait.png")
    assert result.pop("score") > found["threshold"] > 0.9
    person = {"person": "Eileen", "nearest": "Eileen", "key": "Eileen/1.jpg"}
    assert result == {"face": 0, **person}
    assert found["people"] == ["Eileen"]
    assert {failure["reason"] for failure in found["failures"]} == {"no-face"}
    assert 0 < found["false_positive_rate"] < 0.001


def test_whole_images_are_named_from_a_threshold_on(place: Path) -> None:
    argv = "identify", "pets", "unknown/cat.png", "unknown/rocket.jpg", "--model=image"
    done = featureid(place, *argv, "--threshold=0.8")
    assert (done.returncode, done.stderr) == (0, "")
    cat, rocket = done.stdout.splitlines()
    assert cat.startswith(f"{place}/unknown/cat.png: Chelsea, 0.9")
    assert rocket.startswith(f"{place}/unknown/rocket.jpg: unknown; most like Chelsea, ")
    done = featureid(place, *argv)
    assert done.returncode == 2
    assert "no threshold has been measured for the model 'image'" in done.stderr


def test_snapshots_are_known_and_unknown(place: Path) -> None:
    for folder in ("pets", "unknown"):
        embed = "embed", folder, "--output", f"out/{folder}", "--strip-prefix", folder
        assert featureid(place, *embed).returncode == 0
    found = identify(place, "out/pets", "out/unknown", "--threshold=0.8")
    named = {result["query"]: result["person"] for result in found["results"]}
    assert named == {"cat.png": "Chelsea", "portrait.png": None, "rocket.jpg": None}
    images = identify(place, "out/pets", "unknown", "--threshold=0.8")
    assert [result["person"] for result in images["results"]] == ["Chelsea", None, None]
    done = featureid(place, "identify", "out/pets", "unknown", "--model=face")
    assert done.returncode == 2
    assert "cannot be compared: their model digest differs" in done.stderr


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["known", "nowhere"], 2, "input 'nowhere': no such file"),
        (["known", "unknown", "--threshold=3"], 2, "--threshold is 3.0; a score is from -1 to 1"),
        (["unknown/rocket.jpg", "unknown"], 2, "no face of a known person"),
        (["known", "unknown/rocket.jpg"], 1, "no-face"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    place: Path, argv: list[str], status: int, message: str
) -> None:
    done = featureid(place, "identify", *argv)
    assert done.returncode == status, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
