"""``featureid search`` as a user runs it, on real pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.storage_samples import make_info, make_row, write_rows


def featureid(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featureid", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def collection(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images`` (photos, one of them half as large, one turned) and ``out``."""
    place = tmp_path_factory.mktemp("search")
    shutil.copytree(photos / "small", place / "images")
    image = Image.open(place / "images" / "rocket.jpg")
    image.resize((image.width // 2, image.height // 2)).save(place / "images" / "half.png")
    image.rotate(-90, expand=True).save(place / "turned.png")
    done = featureid(place, "embed", "images", "--output", "out", "--strip-prefix", "images")
    assert done.returncode == 0, done.stderr
    return place


def search(place: Path, *argv: str) -> list[dict[str, Any]]:
    done = featureid(place, "search", "out", *argv, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
    return results


def keys(result: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in result["hits"]]


def test_the_image_itself_comes_first_and_then_its_copy(collection: Path) -> None:
    (found,) = search(collection, "--query", "images/rocket.jpg", "-k2")
    assert (found["query"], keys(found)) == ("rocket.jpg", ["rocket.jpg", "half.png"])
    assert found["hits"][0]["score"] == 1 > found["hits"][1]["score"] > 0.9
    (found,) = search(collection, "--query", "images/rocket.jpg", "--exclude-self", "-k1")
    assert keys(found) == ["half.png"]


def test_a_threshold_limits_the_matches_and_k_says_what_it_cut_off(collection: Path) -> None:
    (found,) = search(collection, "--query", "images/rocket.jpg", "--threshold", "0.8")
    assert (keys(found), found["cut_off"]) == (["rocket.jpg", "half.png"], 0)
    (found,) = search(collection, "--query", "images/rocket.jpg", "--threshold=0.8", "-k1")
    assert (keys(found), found["cut_off"]) == (["rocket.jpg"], 1)
    done = featureid(
        collection, "search", "out", "--query", "images/rocket.jpg", "--threshold=0.8", "-k1"
    )
    assert done.stdout.splitlines() == [
        "rocket.jpg",
        "   1.0000  duplicate    0 bits  rocket.jpg",
        "  … and 1 more; raise -k to see them",
        done.stdout.splitlines()[-1],
    ]
    assert done.stdout.splitlines()[-1].startswith("verdicts rest on image on ImageNet: measured")


def test_a_turned_image_is_found_in_its_four_ways(collection: Path) -> None:
    (found,) = search(collection, "--query", "turned.png", "-k2", "--turned")
    assert keys(found) == ["rocket.jpg", "half.png"]
    assert found["hits"][0]["turned"] == 270
    (straight,) = search(collection, "--query", "turned.png", "-k1")
    assert straight["hits"][0]["score"] < found["hits"][0]["score"]
    assert "turned" not in straight["hits"][0]


def test_queries_are_folders_globs_and_snapshots(collection: Path) -> None:
    folder = search(collection, "--query", "images", "-k1")
    assert [result["query"] for result in folder] == [keys(result)[0] for result in folder]
    assert len(folder) == 7
    rows = search(collection, "--query", "out", "-k1", "--prefix", "r")
    assert sorted(result["query"] for result in rows) == [result["query"] for result in folder]
    assert {key for result in rows for key in keys(result)} == {"rocket.jpg"}
    some = search(collection, "--query", "images/c*.jpg", "turned.png", "-k1")
    assert len(some) == 4


def test_an_image_that_cannot_be_read_costs_no_other(collection: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("not an image")
    shutil.copy(collection / "turned.png", tmp_path / "good.png")
    done = featureid(collection, "search", "out", "--query", str(tmp_path), "-k1", "--json")
    printed = json.loads(done.stdout)
    assert (done.returncode, len(printed["results"])) == (0, 1)
    assert [failure["reason"] for failure in printed["failures"]] == ["not-an-image"]
    assert "bad.jpg: not-an-image" in done.stderr
    done = featureid(collection, "search", "out", "--query", str(tmp_path / "bad.jpg"))
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["out", "--query", "nowhere.jpg"], 2, "nowhere.jpg"),
        (["nowhere", "--query", "turned.png"], 1, "nowhere does not exist"),
        (["out"], 2, "the following arguments are required: --query"),
        (["out", "--query", "turned.png", "-k0"], 2, "k is 0; give 1 or more"),
        (["out", "--query", "turned.png", "--threshold=2"], 2, "--threshold is 2.0; a score is"),
        (["out", "--query", "other"], 2, "cannot be compared: their model digest differs, image"),
        (["out", "--query", "turned.png", "--model=face"], 2, "model digest differs"),
        (["other", "--query", "turned.png"], 2, "name its file with --model"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    collection: Path, argv: list[str], status: int, message: str
) -> None:
    if not (collection / "other").exists():
        write_rows(collection / "other", make_info(dimension=4), [make_row("a")])
    done = featureid(collection, "search", *argv)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("featureid: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


def test_faces_are_searched_by_their_snapshot_s_settings(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "astronaut.png", tmp_path)
    embed = featureid(
        tmp_path, "embed", "astronaut.png", "--model=face", "--faces=all", "--output=out"
    )
    assert embed.returncode == 0, embed.stderr
    (found,) = search(tmp_path, "--query", "astronaut.png")
    assert (found["face"], found["hits"][0]["face"], found["hits"][0]["score"]) == (0, 0, 1)
    done = featureid(tmp_path, "search", "out", "--query", "astronaut.png", "--turned")
    assert done.returncode == 2 and "whole images" in done.stderr
