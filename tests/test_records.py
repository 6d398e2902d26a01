"""Rows and failures: checked, pickled, written as JSON lines."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import CorruptFileError, StorageError
from featureid.storage.failure_file import read_failures
from featureid.storage.manifest import FileSummary
from featureid.storage.records import (
    EmbeddingRow,
    Failure,
    ModelInfo,
    SnapshotInfo,
    first_difference,
)
from tests.storage_samples import make_info, make_row


@given(st.builds(Failure, *[st.text(max_size=20)] * 5))
def test_a_failure_survives_its_line_of_json(failure: Failure) -> None:
    line = failure.to_json()
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert Failure.from_json(line) == failure


def test_a_failure_line_is_plain_json_and_may_have_unknown_fields() -> None:
    fields = json.loads(Failure("é/a.jpg", "read", "empty", "no bytes").to_json())
    assert list(fields) == ["key", "stage", "reason", "message", "source_version", "has_rows"]
    line = json.dumps({**fields, "retries": 3}).encode()
    assert Failure.from_json(line).key == "é/a.jpg"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{",
        b'{"key": "a"}',
        b"\xff",
        b"[" * 100_000,
        b'{"key": "\\udc80", "stage": "", "reason": "", "message": ""}',
        b'{"key": 7, "stage": "", "reason": "", "message": ""}',
    ],
)
def test_a_line_that_is_not_a_failure_is_refused(line: bytes) -> None:
    with pytest.raises(CorruptFileError, match="is not a failure"):
        Failure.from_json(line)


def test_a_bad_line_of_a_failures_file_is_named(tmp_path: Path) -> None:
    lines = Failure("a.jpg", "read", "empty", "no bytes").to_json() + b'{"key": 7}\n'
    path, data = tmp_path / "failures-0.jsonl.gz", gzip.compress(lines)
    path.write_bytes(data)
    summary = FileSummary(path.name, 2, len(data), hashlib.sha256(data).hexdigest())
    with pytest.raises(CorruptFileError, match=r"failures-0.*: line 2: .*key: Expected str"):
        list(read_failures(str(path), summary))


def test_rows_travel_pickled() -> None:
    row = make_row("a.jpg")
    copy = pickle.loads(pickle.dumps(row))
    assert np.array_equal(copy.vector, row.vector)
    assert (copy.key, copy.sha256, copy.source_size) == (row.key, row.sha256, row.source_size)
    assert pickle.loads(pickle.dumps(make_info())) == make_info()
    assert len(pickle.dumps(make_row("a.jpg", 128))) < 1000


@pytest.mark.parametrize(
    ("vector", "sha256", "said"),
    [
        (np.zeros(4), bytes(32), "float64"),
        (np.zeros((1, 4), np.float32), bytes(32), r"\(1, 4\)"),
        (np.zeros(4, np.float32), bytes(31), "31"),
    ],
)
def test_a_row_that_cannot_be_stored_is_refused_at_once(
    vector: npt.NDArray[Any], sha256: bytes, said: str
) -> None:
    with pytest.raises(StorageError, match=said):
        EmbeddingRow("a.jpg", vector, sha256, 1, "", 1, 1)


def test_impossible_models_and_snapshots_are_refused() -> None:
    with pytest.raises(StorageError, match="bfloat16"):
        ModelInfo("m", "d", "p", 128, "bfloat16")
    with pytest.raises(StorageError, match="Dimension 0"):
        ModelInfo("m", "d", "p", 0)
    with pytest.raises(StorageError, match="0 shards"):
        SnapshotInfo("s", "c", "w", ModelInfo("m", "d", "p", 4), 0)


def test_models_compare_whatever_their_names_and_stored_types_are() -> None:
    one = make_info().model
    assert first_difference(one, replace(one, name="other", dtype="float16", faces="haar")) is None
    for change, what in (
        ({"digest": "ef" * 32}, "model digest"),
        ({"preprocessing_digest": "ef" * 32}, "preprocessing digest"),
        ({"dimension": 8}, "dimension"),
    ):
        other = replace(one, **change)
        (value,) = (str(value) for value in change.values())
        found = first_difference(one, other)
        assert found is not None and (found[0], found[2]) == (what, value)
    assert first_difference(one, ModelInfo.unverified("image", 4)) is not None
    theirs = ModelInfo.unverified("theirs", 4), ModelInfo.unverified("theirs", 4, "float16")
    assert first_difference(*theirs) is None
