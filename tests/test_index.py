"""Indexes of real snapshots: the file, galleries that search by it, the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from featureid.cli import main as cli
from featureid.errors import CorruptFileError, FeatureIdError, UsageError
from featureid.matching import codes as codes_module
from featureid.matching import inverted_lists as lists_module
from featureid.matching.gallery import Gallery
from featureid.matching.index import Use
from featureid.matching.index_file import read_index, write_index
from featureid.storage.lifecycle import prune
from featureid.storage.reader import open_snapshot
from featureid.storage.records import EmbeddingRow
from featureid.storage.verify import verify_snapshot
from tests.matching_samples import Matrix, near_pairs, on_surface, sample
from tests.storage_samples import ID, make_info, write_rows


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists_module, "FEWEST_ROWS", 1000)
    monkeypatch.setattr(lists_module, "_ROWS_PER_LIST", 30)


DIMENSION = 64


def write(place: Path, vectors: Matrix, snapshot: str = ID) -> None:
    rows = [
        EmbeddingRow(f"{number:05}.jpg", vector, bytes(32), 1, "", 1, 1)
        for number, vector in enumerate(vectors)
    ]
    write_rows(place, make_info(3, dimension=vectors.shape[1], snapshot=snapshot), rows)


def test_a_gallery_finds_by_index_what_exact_search_finds(tmp_path: Path) -> None:
    vectors = near_pairs(1000, DIMENSION, 1)
    for name, part in (("a", vectors[:1300]), ("b", vectors[700:])):
        write(tmp_path / name, part)
        write_index(open_snapshot(tmp_path / name))
    folders = [tmp_path / "a", tmp_path / "b"]
    exact = Gallery(folders)
    for stream in (False, True):
        gallery = Gallery(folders, stream=stream, index=True)
        assert gallery.uses_index(None, 0.8)
        for k in (None, 1):
            assert gallery.matches(vectors[:50], k, 0.8) == exact.matches(vectors[:50], k, 0.8)
        assert not gallery.uses_index(10)  # of rows without structure
        assert gallery.matches(vectors[:5], 3) == exact.matches(vectors[:5], 3)


def test_an_index_that_finds_too_little_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = near_pairs(400, DIMENSION, 1)
    write(tmp_path, vectors)
    monkeypatch.setattr(codes_module, "_DEVIATIONS", -1)
    write_index(open_snapshot(tmp_path))
    gallery, exact = Gallery(tmp_path, index=True), Gallery(tmp_path)
    recall = gallery.recall(None, 0.8)
    assert recall is not None and recall.share < 0.9 and not gallery.uses_index(None, 0.8)
    assert gallery.matches(vectors[:9], None, 0.8) == exact.matches(vectors[:9], None, 0.8)
    assert exact.recall(None, 0.8) is None and not exact.uses_index(None, 0.8)


def test_a_gallery_finds_the_nearest_rows_by_lists(tmp_path: Path) -> None:
    vectors = on_surface(5200, DIMENSION, 1)
    queries = on_surface(300, DIMENSION, 2)
    for name, part in (("a", vectors[:3000]), ("b", vectors[3000:5000]), ("c", vectors[5000:])):
        write(tmp_path / name, part)
        write_index(open_snapshot(tmp_path / name), 0.95)
    folders = [tmp_path / name for name in "abc"]
    exact, gallery = Gallery(folders), Gallery(folders, index=True)
    recall = gallery.recall(10)
    assert recall is not None and 0.95 <= recall.share < 1
    assert gallery.uses_index(10) and gallery.uses_index(11) and not gallery.uses_index(101)
    assert not Gallery(folders, index=True, stream=True).uses_index(10)
    found, there = gallery.matches(queries, 10), exact.matches(queries, 10)
    share = np.mean([len({*a.hits} & {*b.hits}) / 10 for a, b in zip(found, there, strict=True)])
    assert share > 0.93
    assert all(matches.total == 5200 for matches in found)
    # Scores are exact, and in order.
    (everything,) = exact.matches(queries[0], 5200)
    (some,) = gallery.matches(queries[0], 20)
    places = [everything.hits.index(hit) for hit in some.hits]
    assert len(places) == 20 and places == sorted(places)


@pytest.mark.parametrize("use", ["nearest", "threshold"])
def test_an_index_can_be_for_some_searches_only(tmp_path: Path, use: Use) -> None:
    vectors = on_surface(2000, DIMENSION, 1)
    write(tmp_path, vectors)
    snapshot = open_snapshot(tmp_path)
    both = Path(write_index(snapshot, 0.95)[0]).stat().st_size
    place, made = write_index(snapshot, 0.95, use)
    rows = 2000 * (DIMENSION // 8 if use == "nearest" else DIMENSION // 4 + 2)
    assert both - Path(place).stat().st_size > 0.99 * rows
    gallery, exact = Gallery(tmp_path, index=True), Gallery(tmp_path)
    assert read_index(snapshot).use == made.use == use
    for k, threshold in ((10, None), (None, 0.9)):
        wanted = (use == "nearest") == (threshold is None)
        assert gallery.has_index_for(threshold) == wanted
        assert gallery.uses_index(k, threshold) == wanted
        assert (gallery.recall(k, threshold) is not None) == wanted
        if not wanted:
            found = gallery.matches(vectors[:20], k, threshold)
            assert found == exact.matches(vectors[:20], k, threshold)
    assert not exact.has_index_for(None)


def test_an_index_of_rows_far_from_each_other_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, sample("random", 50, 128, 1))
    write_index(open_snapshot(tmp_path))
    assert not Gallery(tmp_path, index=True).uses_index(None, 0.9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda data: data[:-1], CorruptFileError, "is damaged; run featureid index"),
        (lambda data: data[:-1] + b"?", CorruptFileError, "is damaged; run featureid index"),
        (lambda data: b"x" + data, CorruptFileError, "is damaged"),
        (lambda data: b"", CorruptFileError, "is damaged"),
        (lambda data: data.replace(b'"version":3', b'"version":4'), UsageError, "4, not"),
        (lambda data: data.replace(b'"recall":0.99', b'"recall":0.5'), CorruptFileError, "damaged"),
        (lambda data: data.replace(b'"manifest":"', b'"manifest":"0'), UsageError, "of another"),
    ],
)
def test_a_wrong_index_is_refused(
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    error: type[FeatureIdError],
    message: str,
) -> None:
    write(tmp_path, sample("random", 20, 8, 1))
    snapshot = open_snapshot(tmp_path)
    with pytest.raises(UsageError, match="has no `index`; run featureid index"):
        read_index(snapshot)
    place = Path(write_index(snapshot)[0])
    assert read_index(snapshot).codes.codes.shape == (20, 1)
    place.write_bytes(change(place.read_bytes()))
    with pytest.raises(error, match=message):
        read_index(snapshot)


def test_an_index_is_of_all_rows(tmp_path: Path) -> None:
    write(tmp_path, sample("random", 20, 8, 1))
    with pytest.raises(UsageError, match="leave out `index` or `prefix`"):
        Gallery(tmp_path, "a", index=True)


def test_prune_deletes_the_index_with_its_snapshot(tmp_path: Path) -> None:
    vectors, places = sample("random", 20, 8, 1), []
    for snapshot in (ID, "20261124T054231Z-3f9a1c"):
        write(tmp_path, vectors, snapshot)
        places.append(Path(write_index(open_snapshot(tmp_path))[0]))
    assert [place.parent for place in places] == [tmp_path / "snapshots"] * 2
    assert prune(str(tmp_path), 1, datetime(2026, 11, 25, tzinfo=UTC), timedelta(1)) == [ID]
    assert [place.exists() for place in places] == [False, True]
    assert verify_snapshot(str(tmp_path)).ok


def featureid(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featureid", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command_line_searches_by_index(tmp_path: Path) -> None:
    write(tmp_path / "out", near_pairs(600, DIMENSION, 1))
    made = featureid(tmp_path, "index", "out", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    printed = json.loads(made.stdout)
    assert printed["rows"] == 1200 and Path(tmp_path, printed["file"]).exists()
    recalls = {line["threshold"]: line["recall"] for line in printed["recalls"]}
    search = ["search", "out", "--query", "out", "--threshold=0.8", "--json"]
    exact = json.loads(featureid(tmp_path, *search).stdout)
    done = featureid(tmp_path, *search, "--index")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    found = json.loads(done.stdout)
    assert found.pop("recall") == recalls[0.8] >= 0.99 and found == exact
    assert "the index finds" in done.stderr
    nearest = featureid(tmp_path, *search[:4], "--index", "--json")
    assert nearest.returncode == 0 and json.loads(nearest.stdout)["recall"] == 1
    assert "not used: without a threshold it is for -k up to 100 and for snap" in nearest.stderr
    for argv, message in (
        ([*search, "--index", "--prefix=a"], "leave out --index or --prefix"),
        (["index", "out", "--recall=1"], "--recall is 1.0; give more than 0 and less than 1"),
    ):
        done = featureid(tmp_path, *argv)
        assert done.returncode == 2 and message in done.stderr


def test_the_command_line_makes_an_index_for_some_searches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    write(tmp_path / "out", near_pairs(600, DIMENSION, 1))
    assert cli.main(["index", out, "--only=nearest", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["recalls"] == [] and len(made["neighbors"]) == 4
    assert cli.main(["search", out, "--query", out, "--threshold=0.8", "--index", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["recall"] == 1
    assert "not used: it was made for the other kind of searches only" in printed.err
    assert cli.main(["index", out, "--only=threshold"]) == 0
    assert "nearest" not in capsys.readouterr().out
