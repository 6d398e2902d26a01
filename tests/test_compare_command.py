"""``featureid compare`` as a user runs it, on two files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, a smaller copy, a mirrored one, and another photo."""
    place = tmp_path_factory.mktemp("compare")
    with Image.open(photos / "coffee.png") as image:
        image.save(place / "a.png")
        image.resize((image.width // 2, image.height // 2)).save(place / "half.jpg")
        ImageOps.mirror(image).save(place / "mirrored.png")
    with Image.open(photos / "rocket.jpg") as image:
        image.save(place / "other.png")
    (place / "b.png").write_bytes((place / "a.png").read_bytes())
    return place


def compare(folder: Path, *argv: str) -> str:
    command = [sys.executable, "-m", "featureid", "compare", *argv]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def compared(folder: Path, name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(compare(folder, "a.png", name, "--json"))
    return result


def test_the_same_bytes(folder: Path) -> None:
    found = compared(folder, "b.png")
    assert {name: found[name] for name in ("cosine", "angle", "distance", "hash_distance")} == {
        "cosine": 1.0,
        "angle": 0.0,
        "distance": 0.0,
        "hash_distance": 0,
    }
    assert (found["identical"], found["verdict"]) == (True, "duplicate")
    lines = compare(folder, "a.png", "b.png").splitlines()
    assert lines[:2] == [
        "cosine 1.0000, angle 0.0°, distance 0.0000",
        "the files have the same bytes",
    ]
    assert lines[2].startswith("duplicate: 0.9 or more; of pairs of different images")


def test_copies_and_another_photo(folder: Path) -> None:
    names = "half.jpg", "mirrored.png", "other.png"
    half, mirrored, other = (compared(folder, name) for name in names)
    assert (half["verdict"], mirrored["verdict"]) == ("review", "duplicate")
    assert not half["identical"] and not other["identical"]
    # The vector hardly changes in a mirror, the hash hardly with the size.
    assert half["hash_distance"] <= 31 < mirrored["hash_distance"]
    assert other["verdict"] == "different" and other["hash_distance"] > 60
    assert mirrored["angle"] < half["angle"] < 37 < other["angle"]
    meaning, rests_on = compare(folder, "a.png", "other.png").splitlines()[-2:]
    assert meaning.startswith("different: below 0.7; of pairs of different images")
    assert rests_on.startswith("this rests on image on ImageNet: measured on 1000 photos")


def test_every_model_has_rates_of_its_own(folder: Path) -> None:
    last = compare(folder, "a.png", "mirrored.png", "--model", "image-int8").splitlines()[-1]
    assert last.startswith("this rests on image-int8 on ImageNet: measured on 500 photos")


def test_several_faces_make_a_matrix(photos: Path, folder: Path) -> None:
    with Image.open(photos / "astronaut.png") as file:
        person = file.convert("RGB").crop((120, 0, 380, 260))
    pair = Image.new("RGB", (520, 260))
    pair.paste(person, (0, 0))
    pair.paste(ImageOps.mirror(person), (260, 0))
    pair.save(folder / "pair.png")
    person.save(folder / "one.png")
    argv = "pair.png", "one.png", "--model=face", "--faces=all"
    found = json.loads(compare(folder, *argv, "--json"))
    assert (found["first"]["faces"], found["second"]["faces"]) == ([0, 1], [0])
    ((same,), (mirrored,)) = found["cosines"]
    assert same > 0.99 and same > mirrored > 0.9
    assert (found["cosine"], found["first"]["nearest"], found["second"]["nearest"]) == (same, 0, 0)
    lines = compare(folder, *argv).splitlines()
    assert lines[1:4] == ["face            0", f"       0{same:9.4f}", f"       1{mirrored:9.4f}"]
    one = json.loads(compare(folder, "pair.png", "one.png", "--model=face", "--json"))
    assert "cosines" not in one and "faces" not in one["first"]
