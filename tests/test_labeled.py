"""Labeled images that a user names: folders, tables and snapshots are read alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from featureid.errors import UsageError
from featureid.labeled import LabeledSource
from tests.storage_samples import write_snapshot

KEYS = ["cats/1.png", "cats/2.png", "dogs/1.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for key in KEYS:
        (tmp_path / "photos" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "photos" / key)
    return tmp_path / "photos"


def test_folders_tables_and_snapshots_give_the_same_labels(folder: Path, tmp_path: Path) -> None:
    labels = dict(zip(KEYS, ("cats", "cats", "dogs"), strict=True))
    table = tmp_path / "labels.csv"
    rows = [f"{folder / key},{label},train" for key, label in labels.items()]
    table.write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    write_snapshot(tmp_path / "out", KEYS)

    by_folder, by_table = LabeledSource(str(folder)), LabeledSource(str(table))
    of_both = LabeledSource(str(folder), str(table))
    of_snapshot = LabeledSource(str(tmp_path / "out"))

    assert by_folder.labels() == of_both.labels() == labels
    assert by_table.labels() == {str(folder / key): label for key, label in labels.items()}
    assert {ref.key for ref in by_folder.refs} == {*KEYS}
    assert of_snapshot.snapshot is not None and of_snapshot.refs == []
    # Images without a feature ID have labels, too.
    failed = {failure.key for failure in of_snapshot.failures}
    assert failed and {*of_snapshot.keys} == {*KEYS} | failed
    assert {*of_snapshot.labels()} == {*KEYS} | failed
    assert of_both.parts() == dict.fromkeys(KEYS, "train")
    assert by_folder.parts() == of_snapshot.parts() == {}


def test_two_tables_are_one_too_many(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{folder / KEYS[0]},cat\n", encoding="utf-8")
    with pytest.raises(UsageError, match="has labels of its own; leave out `labels`"):
        LabeledSource(str(table), str(table))
    assert LabeledSource(str(table)).parts() == {}
