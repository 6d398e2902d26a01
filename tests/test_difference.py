"""Comparing two snapshots, and the command that does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.cli import main as cli
from featureid.difference import diff_snapshots, neighbor_overlap, row_cosines
from featureid.errors import UsageError
from featureid.storage import ingest
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.row_columns import row_block
from tests.storage_samples import make_info, make_row, make_writer, write_rows

KEYS = [f"{n:03}" for n in range(60)]


def write(output: Path, digest: str, keys: list[str], *, turned: bool = False) -> Snapshot:
    """A snapshot by a model; ``turned`` vectors are rotated, so that neighbors stay the same."""
    info = make_info(dimension=8)
    info = replace(info, model=replace(info.model, digest=digest))
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    rows = []
    for key in keys:
        row = make_row(key.removesuffix("'"), 8)
        if turned:
            vector = (row.vector @ rotation).astype(np.float32)
            row = replace(row, vector=vector / np.linalg.norm(vector))
        sha256 = bytes(32) if key.endswith("'") else row.sha256
        rows.append(replace(row, key=key.removesuffix("'"), sha256=sha256))
    write_rows(output, info, rows)
    return open_snapshot(str(output))


def test_what_came_went_and_changed(tmp_path: Path) -> None:
    one = write(tmp_path / "1", "aa", KEYS[:50])
    two = write(tmp_path / "2", "aa", [KEYS[5] + "'", *KEYS[10:]])
    found = diff_snapshots(one, two, 10, 40)
    assert (found.added, found.removed, found.changed, found.same) == (10, 9, 1, 40)
    assert found.examples == {
        "added": KEYS[50:],
        "removed": KEYS[:5] + KEYS[6:10],
        "changed": ["005"],
    }
    assert found.same_model and found.identical_vectors == 41 and found.overlap is None
    assert all(value == pytest.approx(1, abs=1e-5) for value in found.cosine_percentiles.values())


def test_of_other_models_only_neighbors_are_compared(tmp_path: Path) -> None:
    one = write(tmp_path / "1", "aa", KEYS)
    turned = diff_snapshots(one, write(tmp_path / "2", "bb", KEYS, turned=True), 5, 50)
    assert (
        not turned.same_model and turned.cosine_percentiles == {} and turned.identical_vectors == 0
    )
    assert turned.overlap == 1 and turned.sampled_rows == 50
    few = diff_snapshots(one, write(tmp_path / "3", "bb", KEYS[:4]), 5, 50)
    assert few.overlap is None
    with pytest.raises(UsageError, match="`k` is 5 and `sample` 5"):
        diff_snapshots(one, one, 5, 5)


def imported(
    output: Path,
    keys: list[str],
    model: str = "theirs",
    columns: tuple[str, ...] = (),
    dtype: str = "float32",
    changed: Mapping[str, Any] | None = None,
) -> Snapshot:
    """A snapshot from another program, with these columns; ``changed`` replaces fields of row 0."""
    rows = [make_row(key, 8) for key in keys]
    rows[0] = replace(rows[0], **changed or {})
    block = row_block(rows, make_info(dimension=8).model)
    info = replace(make_info(dimension=8), model=ModelInfo.unverified(model, 8, dtype))
    named = ingest.Rows(
        "x", keys, np.asarray(block["vector"]), {name: block[name] for name in columns}
    )
    ingest.import_snapshot(make_writer(output, info), named, lambda _: None)
    return open_snapshot(str(output))


IDENTITIES = ("sha256", "source_version")
OTHER_VECTOR = make_row("other", 8).vector


@pytest.mark.parametrize(
    ("one", "two", "changed", "compared_by"),
    [
        (IDENTITIES, IDENTITIES, {"sha256": bytes(32)}, "sha256"),
        (IDENTITIES, IDENTITIES[1:], {"source_version": "v2"}, "source_version"),
        (IDENTITIES, (), {"vector": OTHER_VECTOR}, "vector"),
        ((), (), {"vector": OTHER_VECTOR}, "vector"),
        # A source version that is not known shows nothing.
        (IDENTITIES[1:], IDENTITIES[1:], {"source_version": "", "vector": OTHER_VECTOR}, "vector"),
    ],
)
def test_snapshots_are_compared_by_what_both_have(
    tmp_path: Path,
    one: tuple[str, ...],
    two: tuple[str, ...],
    changed: dict[str, Any],
    compared_by: str,
) -> None:
    first = imported(tmp_path / "1", KEYS, columns=one)
    second = imported(tmp_path / "2", KEYS, columns=two, changed=changed)
    for a, b in ((first, second), (second, first)):
        found = diff_snapshots(a, b, 5, 50)
        assert (found.compared_by, found.shared) == (compared_by, 60)
        assert (found.changed, found.same) == (1, 59) and found.examples["changed"] == [KEYS[0]]


def test_without_anything_to_compare_by_changes_are_not_known(tmp_path: Path) -> None:
    first = imported(tmp_path / "1", KEYS)
    found = diff_snapshots(first, imported(tmp_path / "2", KEYS[5:], "another"), 5, 50)
    assert (found.removed, found.shared, found.compared_by) == (5, 55, None)
    assert found.changed is None and found.same is None and found.examples["changed"] == []
    assert found.overlap == 1


def test_vectors_are_compared_in_the_coarser_type(tmp_path: Path) -> None:
    first = imported(tmp_path / "1", KEYS)
    found = diff_snapshots(first, imported(tmp_path / "2", KEYS, dtype="float16"), 5, 50)
    assert (found.compared_by, found.changed, found.identical_vectors) == ("vector", 0, 0)


def test_another_dimension_is_another_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(tmp_path / "1", KEYS)
    rows = ingest.Rows("x", KEYS, np.tile(np.eye(4, dtype="f4"), (15, 1)))
    info = replace(make_info(), model=ModelInfo.unverified("theirs", 4))
    ingest.import_snapshot(make_writer(tmp_path / "2", info), rows, lambda _: None)
    assert cli.main(["diff", str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    assert "dimension 8, 4): vectors of one must never" in capsys.readouterr().out


def test_neighbor_overlap_counts_shared_neighbors() -> None:
    angles = np.deg2rad([0, 10, 21, 90, 101, 113])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert neighbor_overlap(circle, circle, 2) == 1
    swapped = circle[[3, 1, 2, 0, 4, 5]]
    # Rows 1 and 2 keep each other but lose row 0 to row 3; rows 4 and 5 likewise.
    assert neighbor_overlap(circle, swapped, 2) == pytest.approx((0 + 0.5 * 4 + 0) / 6, abs=1e-4)


def test_cosines_are_of_the_named_rows() -> None:
    eye = np.eye(3, dtype=np.float32)
    here, there = np.array([0, 1, 2]), np.array([0, 2, 2])
    assert row_cosines(eye, eye, here, there).tolist() == [1, 0, 1]
    assert row_cosines(eye, eye, here[:0], there[:0]).tolist() == []


def test_the_command_says_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, digest in (("1", "aa"), ("2", "aa"), ("3", "bb")):
        write(tmp_path / name, digest, KEYS)
    assert cli.main(["diff", str(tmp_path / "1"), str(tmp_path / "2"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (
        found["cosine_percentiles"]["50"] == pytest.approx(1)
        and "can be compared" in found["statement"]
    )
    assert cli.main(["diff", str(tmp_path / "1"), str(tmp_path / "3"), "--k=3"]) == 0
    out = capsys.readouterr().out
    assert "0 with a changed image, 60 with the same image (compared by SHA-256)" in out
    assert "must never be compared" in out and "100.0% of the 3 nearest neighbors" in out
