"""Sign codes: the pairs they find, the recall they measure, the file they are kept in."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import CorruptFileError, FeatureIdError, UsageError
from featureid.matching import codes as codes_module
from featureid.matching.codes import SignCodes, radius_of
from featureid.matching.gallery import Gallery
from featureid.matching.index_file import read_index, write_index
from featureid.matching.scores import pair_scores
from featureid.storage.lifecycle import prune
from featureid.storage.reader import open_snapshot
from featureid.storage.records import EmbeddingRow
from featureid.storage.verify import verify_snapshot
from tests.matching_samples import Matrix, sample, unit
from tests.storage_samples import ID, make_info, write_rows

DIMENSION = 64


def near_pairs(count: int, seed: int) -> Matrix:
    """Return unit vectors, each of which scores from 0.6 to 1 with the one half of them later."""
    random = np.random.default_rng(seed)
    one = sample("random", count, DIMENSION, seed)
    change = random.uniform(0, 1, (count, 1)) * sample("random", count, DIMENSION, seed + 1)
    return np.concatenate([one, unit(one + change)])


def distances(codes: SignCodes, one: Matrix, other: Matrix) -> np.ndarray:
    """Return in how many bits each row of one matrix differs from each of the other."""
    here, there = one > codes.center, other > codes.center
    found: np.ndarray = (here[:, np.newaxis] != there[np.newaxis]).sum(axis=2)
    return found


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(0, 200),
    dimension=st.sampled_from([1, 7, 8, 64, 130]),
    threshold=st.floats(-1, 1),
    at_once=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 2**32),
)
def test_pairs_are_those_that_differ_in_few_bits(
    rows: int, dimension: int, threshold: float, at_once: int, seed: int
) -> None:
    vectors, queries = (sample("clustered", n, dimension, seed) for n in (rows, 9))
    codes = SignCodes.of(lambda: [vectors[:40], vectors[40:]], dimension)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes_module, "_ROWS_AT_ONCE", 64)
        patch.setattr(codes_module, "_QUERIES_AT_ONCE", at_once)
        patch.setattr(codes_module, "_PAIRS_AT_ONCE", at_once)
        found = [
            pair
            for owners, numbers in codes.pairs(queries, threshold)
            for pair in zip(owners.tolist(), numbers.tolist(), strict=True)
        ]
    wanted = distances(codes, queries, vectors) <= radius_of(threshold, dimension)
    assert sorted(found) == [(int(a), int(b)) for a, b in np.argwhere(wanted)]


def test_nearly_all_independent_bits_are_within_the_radius() -> None:
    random = np.random.default_rng(1)
    for threshold in (0.95, 0.9, 0.8, 0.5):
        bits = random.random((20_000, 128)) < math.acos(threshold) / math.pi
        assert (bits.sum(axis=1) <= radius_of(threshold, 128)).mean() > 0.998
    assert [radius_of(threshold, 128) for threshold in (1, 0, -1)] == [0, 83, 128]


def test_recall_is_that_of_the_rows_own_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = near_pairs(500, 1)
    codes = SignCodes.of(lambda: [vectors[:300], vectors[300:]], DIMENSION)
    scores = np.stack([pair_scores(vector, vectors) for vector in vectors])
    np.fill_diagonal(scores, -1)
    bits = distances(codes, vectors, vectors)
    for threshold in (0.9, 0.8, 0.75, 0.6):
        recall = codes.recall(threshold)
        close = scores >= np.float32(threshold)
        assert recall is not None and recall.threshold == threshold
        assert recall.pairs == close.sum()
        assert recall.found == (bits[close] <= radius_of(threshold, DIMENSION)).sum()
    few = codes.recall(0.99)
    assert few is not None and few.threshold < 0.99 and few.pairs >= codes_module.ENOUGH_PAIRS
    monkeypatch.setattr(codes_module, "ENOUGH_PAIRS", 10**6)
    assert codes.recall(0.9) is None


def test_of_very_many_pairs_a_part_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = near_pairs(300, 1)
    all_counted = SignCodes.of(lambda: [vectors], DIMENSION).recall(0.6)
    monkeypatch.setattr(codes_module, "_COUNTED", 100)
    part = SignCodes.of(lambda: [vectors], DIMENSION).recall(0.6)
    assert all_counted is not None and part is not None
    assert part.pairs == pytest.approx(all_counted.pairs, rel=0.2)


def write(place: Path, vectors: Matrix, snapshot: str = ID) -> None:
    rows = [
        EmbeddingRow(f"{number:05}.jpg", vector, bytes(32), 1, "", 1, 1)
        for number, vector in enumerate(vectors)
    ]
    write_rows(place, make_info(3, dimension=vectors.shape[1], snapshot=snapshot), rows)


def test_a_gallery_finds_by_index_what_exact_search_finds(tmp_path: Path) -> None:
    vectors = near_pairs(1000, 1)
    for name, part in (("a", vectors[:1300]), ("b", vectors[700:])):
        write(tmp_path / name, part)
        write_index(open_snapshot(tmp_path / name))
    folders = [tmp_path / "a", tmp_path / "b"]
    exact = Gallery(folders)
    for stream in (False, True):
        gallery = Gallery(folders, stream=stream, index=True)
        assert gallery.uses_index(0.8)
        for k in (None, 1):
            assert gallery.matches(vectors[:50], k, 0.8) == exact.matches(vectors[:50], k, 0.8)
        assert gallery.matches(vectors[:5], 3) == exact.matches(vectors[:5], 3)


def test_an_index_that_finds_too_little_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = near_pairs(400, 1)
    write(tmp_path, vectors)
    monkeypatch.setattr(codes_module, "_DEVIATIONS", -1)
    write_index(open_snapshot(tmp_path))
    gallery, exact = Gallery(tmp_path, index=True), Gallery(tmp_path)
    recall = gallery.recall(0.8)
    assert recall is not None and recall.share < 0.9 and not gallery.uses_index(0.8)
    assert gallery.matches(vectors[:9], None, 0.8) == exact.matches(vectors[:9], None, 0.8)
    assert exact.recall(0.8) is None and not exact.uses_index(0.8)


def test_an_index_of_rows_far_from_each_other_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, sample("random", 50, 128, 1))
    write_index(open_snapshot(tmp_path))
    assert not Gallery(tmp_path, index=True).uses_index(0.9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda data: data[:-1], CorruptFileError, "is damaged; run featureid index"),
        (lambda data: data[:-1] + b"?", CorruptFileError, "is damaged; run featureid index"),
        (lambda data: b"x" + data, CorruptFileError, "is damaged"),
        (lambda data: b"", CorruptFileError, "is damaged"),
        (lambda data: data.replace(b'"version":1', b'"version":2'), UsageError, "2, not"),
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
    assert read_index(snapshot).codes.shape == (20, 1)
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
    write(tmp_path / "out", near_pairs(600, 1))
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
    for argv, message in (
        (search[:4], "an --index is for searches by --threshold; give one"),
        ([*search, "--prefix=a"], "leave out --index or --prefix"),
    ):
        done = featureid(tmp_path, *argv, "--index")
        assert done.returncode == 2 and message in done.stderr
