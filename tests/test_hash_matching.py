"""Copies that only their perceptual hashes give away: found by search, grouped by duplicates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from featureid.cli import main as cli
from featureid.matching import groups
from featureid.matching import hashes as hashes_module
from featureid.matching.collection import joined_collections
from featureid.matching.duplicates import DuplicateOptions, Link, find_duplicates
from featureid.matching.hashes import Hashes
from tests.matching_samples import sample
from tests.test_duplicates import collection, fan


@pytest.fixture(scope="module")
def output(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, and of one of them a gray copy with a quarter of the pixels, and a mirrored one."""
    place = tmp_path_factory.mktemp("hashes")
    shutil.copytree(photos / "small", place / "images")
    image = Image.open(place / "images" / "chelsea.jpg")
    quarter = image.resize((image.width // 4, image.height // 4), Image.Resampling.BOX)
    ImageOps.grayscale(quarter).resize(image.size).save(place / "images" / "gray.png")
    ImageOps.mirror(image).save(place / "mirrored.png")
    prefix = str(place / "images")
    embed = ["embed", prefix, "--strip-prefix", prefix, "--output"]
    assert cli.main([*embed, str(place / "out")]) == 0
    assert cli.main([*embed, str(place / "plain"), "--hash=none"]) == 0
    return place


def printed(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert cli.main([*map(str, argv), "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_search_finds_a_copy_by_its_hash(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "search", output / "out", "--query", output / "images" / "chelsea.jpg", "--threshold=.9"
    (found,) = printed(capsys, *query)["results"]
    itself, gray = found["hits"]
    assert (itself["key"], itself["hash_distance"]) == ("chelsea.jpg", 0)
    assert gray["key"] == "gray.png" and gray["hash_distance"] <= 31 and gray["score"] < 0.9
    (cut,) = printed(capsys, *query, "-k1")["results"]
    assert (len(cut["hits"]), cut["cut_off"]) == (1, 1)
    (alone,) = printed(capsys, *query, "--no-hash")["results"]
    assert alone["hits"] == [{"key": "chelsea.jpg", "score": 1, "verdict": "duplicate"}]
    plain = "search", output / "plain", "--query", output / "out", "--threshold=.9"
    assert all(len(result["hits"]) == 1 for result in printed(capsys, *plain)["results"])
    by_snapshot = "search", output / "out", "--query", output / "out", "--threshold=.9"
    pairs = {
        (result["query"], hit["key"])
        for result in printed(capsys, *by_snapshot, "--exclude-self")["results"]
        for hit in result["hits"]
    }
    assert pairs == {("chelsea.jpg", "gray.png"), ("gray.png", "chelsea.jpg")}
    assert cli.main([*map(str, query)]) == 0
    assert "bits  gray.png" in capsys.readouterr().out


def test_copies_by_hash_are_the_last_that_k_cuts_off(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "search", output / "out", "--query", output / "mirrored.png", "--turned"
    (found,) = printed(capsys, *query, "-k7")["results"]
    assert "hash_distance" in found["hits"][0] and len(found["hits"]) == 7
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    same = "search", output / "out", "--query", output / "images" / "chelsea.jpg"
    (found,) = printed(capsys, *same, "-k2")["results"]
    assert [hit["key"] for hit in found["hits"]] == ["chelsea.jpg", "gray.png"]


def test_duplicates_groups_a_copy_by_its_hash(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "duplicates", output / "out")
    (group,) = found["groups"]
    assert {member["key"] for member in group["members"]} == {"chelsea.jpg", "gray.png"}
    assert group["members"][1]["hash_distance"] <= found["max_hash_distance"] == 31
    assert printed(capsys, "duplicates", output / "out", "--no-hash")["groups"] == []
    assert printed(capsys, "duplicates", output / "plain")["groups"] == []
    # Hashes of one side alone say nothing.
    against = printed(capsys, "duplicates", output / "out", "--against", output / "plain")
    assert [len(group["members"]) for group in against["groups"]] == [2] * 7
    cells = printed(capsys, "duplicates", output / "out", "--method=cells")
    assert cells["groups"] == found["groups"]
    assert cli.main(["duplicates", str(output / "out")]) == 0
    text = capsys.readouterr().out
    assert "or hashes that differ in 31 bits or fewer" in text and "bits" in text


def test_a_group_is_a_star_by_score_or_hash() -> None:
    bits = np.zeros((4, 32), np.uint8)
    bits[2, :8] = 255  # far from the others
    hashes = Hashes.of(bits, np.array([90, 90, 90, 10], np.uint8))
    rows = replace(collection(fan(0, 80, 5, 160)), hashes=hashes)
    (group,) = find_duplicates(rows, DuplicateOptions(0.95)).groups
    members = [(m.row, m.hash_distance) for m in group.members]
    assert group.center == 0 and members == [(0, 0), (2, 64), (1, 0)]
    known = replace(rows, origin=np.ones(4, np.int8))
    both = joined_collections(replace(collection(fan(1)), hashes=hashes.take(np.array([2]))), known)
    (group,) = find_duplicates(both, DuplicateOptions(0.95, across=True)).groups
    assert sorted(m.row for m in group.members) == [0, 1, 3]


@pytest.mark.parametrize("link", ["star", "single"])
@pytest.mark.parametrize("known", ["none", "some", "across"])
def test_groups_do_not_depend_on_whether_equal_hashes_are_listed(
    monkeypatch: pytest.MonkeyPatch, known: str, link: Link
) -> None:
    random = np.random.default_rng(5)
    bits = random.integers(256, size=(3, 32)).astype(np.uint8)[random.integers(3, size=90)]
    bits[::9, 0] ^= 3  # near the others
    hashes = Hashes.of(bits, random.choice([10, 90, 90, 90], 90).astype(np.uint8))
    rows = replace(collection(sample("random", 90, 16, 1)), hashes=hashes)
    if known != "none":
        rows = replace(rows, origin=random.integers(2, size=90).astype(np.int8))
    ignored = frozenset((f"{one:03}.jpg", f"{one + 1:03}.jpg") for one in range(0, 80, 3))
    options = DuplicateOptions(0.9, link=link, across=known == "across", ignored=ignored)
    wanted = find_duplicates(rows, options)
    assert any(len(group.members) > 10 for group in wanted.groups)
    monkeypatch.setattr(hashes_module, "_MAX_LISTED", 1)
    monkeypatch.setattr(groups, "_MAX_HELD", 0)
    monkeypatch.setattr(groups, "_MAX_HELD_PER_ROW", 0)
    assert find_duplicates(rows, options) == wanted


def test_the_histogram_is_shown(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "duplicates", output / "out", "--histogram")
    assert sum(bin_["pairs"] for bin_ in found["histogram"]) == found["pairs"] - 1 == 20
    assert found["expected_false_pairs"] is None
    assert cli.main(["duplicates", str(output / "out"), "--histogram"]) == 0
    text = capsys.readouterr().out
    assert "scores of 20 random pairs" in text and "too few pairs" in text
