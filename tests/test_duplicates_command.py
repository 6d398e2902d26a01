"""``featureid duplicates`` as a user runs it, on real pictures."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

HOSTILE = "it's $(x)\n`y`.png"


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featureid", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def collection(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images``: photos, copies, a smaller and a mirrored one; and ``out``."""
    place = tmp_path_factory.mktemp("duplicates")
    images = place / "images"
    shutil.copytree(photos / "small", images)
    shutil.copy(images / "coffee.jpg", images / "copy.jpg")
    image = Image.open(images / "rocket.jpg")
    image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(images / HOSTILE)
    ImageOps.mirror(image).save(images / "mirrored.png")
    done = run(place, "embed", "images", "--output", "out", "--strip-prefix", "images")
    assert done.returncode == 0, done.stderr
    return place


def found(place: Path, *argv: str) -> dict[str, Any]:
    done = run(place, "duplicates", "out", *argv, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_copies_are_grouped_and_nothing_else(collection: Path) -> None:
    result = found(collection)
    assert [{member["key"] for member in group["members"]} for group in result["groups"]] == [
        {"rocket.jpg", HOSTILE, "mirrored.png"},
        {"coffee.jpg", "copy.jpg"},
    ]
    assert (result["images"], result["duplicates"], result["threshold"]) == (9, 3, 0.9)
    rocket, coffee = result["groups"]
    assert coffee["keep"] == "coffee.jpg"
    assert [member["identical"] for member in coffee["members"]] == [True, True]
    assert [member["identical"] for member in rocket["members"]] == [True, False, False]
    assert 0 < result["false_positive_rate"] < 1e-6
    assert found(collection, "--method", "cells")["groups"] == result["groups"]


def test_what_a_person_reads(collection: Path) -> None:
    done = run(collection, "duplicates", "out")
    assert done.returncode == 0 and done.stderr == ""
    assert "keep        coffee.jpg" in done.stdout
    assert "same bytes  copy.jpg" in done.stdout
    assert r"it's $(x)\n`y`.png" in done.stdout
    assert "3 of 9 images are duplicates, in 2 groups, at a score of 0.9 or more" in done.stdout


def test_the_script_moves_all_but_the_kept(collection: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(collection, place)
    embed = run(place, "embed", "images", "--output", "fresh", "--strip-prefix", "images")
    assert embed.returncode == 0, embed.stderr
    files = "--csv", "d.csv", "--script", "move.sh", "--move-to", str(place / "moved here")
    done = run(place, "duplicates", "fresh", "--keep", "key", *files)
    assert done.returncode == 0, done.stderr
    with (place / "d.csv").open(newline="", encoding="utf-8") as file:
        lines = [*csv.DictReader(file)]
    assert {line["key"]: line["keep"] for line in lines} == {
        HOSTILE: "True",
        "mirrored.png": "False",
        "rocket.jpg": "False",
        "coffee.jpg": "True",
        "copy.jpg": "False",
    }
    assert all(Path(line["uri"]).is_file() for line in lines)
    subprocess.run(["sh", "move.sh"], cwd=place, check=True)
    moved = {path.name for path in (place / "moved here").iterdir()}
    assert moved == {"mirrored.png", "rocket.jpg", "copy.jpg"}
    assert (place / "images" / HOSTILE).exists()


def test_new_images_against_known_ones(collection: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(collection, place)
    (place / "more").mkdir()
    shutil.copy(place / "images" / "chelsea.jpg", place / "more" / "cat.jpg")
    shutil.copy(place / "images" / "camera.jpg", place / "images" / "new.jpg")
    assert run(place, "embed", "more", "--output", "other").returncode == 0
    against = found(place, "--against", "other")
    (group,) = against["groups"]
    assert group["keep"].endswith("/more/cat.jpg")
    assert [member["known"] for member in group["members"]] == [True, False]
    first = json.loads(run(place, "inspect", "out", "--json").stdout)["folder"]
    again = run(
        place,
        "embed",
        "images",
        "--output",
        "out",
        "--strip-prefix",
        "images",
        "--previous",
        "auto",
    )
    assert again.returncode == 0, again.stderr
    since = found(place, "--since", first)
    assert [{m["key"] for m in g["members"]} for g in since["groups"]] == [
        {"camera.jpg", "new.jpg"}
    ]
    assert since["groups"][0]["keep"] == "camera.jpg"
    (place / "pairs.csv").write_text("new.jpg,camera.jpg\n")
    result = found(place, "--ignore-pairs", "pairs.csv", "--prefix", "c")
    assert [g["keep"] for g in result["groups"]] == ["coffee.jpg"]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["nowhere"], 1, "nowhere does not exist"),
        (["out", "--threshold", "2"], 2, "--threshold is 2.0; a score is from -1 to 1"),
        (["out", "--script", "x.sh"], 2, "give both --script and --move-to"),
        (["out", "--ignore-pairs", "bad.csv"], 2, "bad.csv, line 2: 3 columns"),
        (["out", "--ignore-pairs", "quote.csv"], 2, "quote.csv, line 1: not CSV"),
        (["out", "--against", "a", "--since", "b"], 2, "not allowed with argument"),
    ],
)
def test_wrong_usage_is_one_line(
    collection: Path, argv: list[str], status: int, message: str
) -> None:
    (collection / "bad.csv").write_text("a,b\na,b,c\n")
    (collection / "quote.csv").write_text('a,"b\n')
    done = run(collection, "duplicates", *argv)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("featureid: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
