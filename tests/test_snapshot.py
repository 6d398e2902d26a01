"""Ids and places of snapshots, and how a reader finds a complete one."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from featureid.durations import time_text
from featureid.errors import CorruptFileError, StorageError
from featureid.storage.snapshot import (
    checked_at,
    find_snapshot,
    new_snapshot_id,
    snapshot_folder,
    started_at,
)
from tests.storage_samples import ID

NOON = datetime(2026, 11, 23, 13, 42, 31, tzinfo=timezone(timedelta(hours=8)))


def test_ids_and_times_are_utc() -> None:
    assert re.fullmatch(r"20261123T054231Z-[0-9a-f]{6}", new_snapshot_id(NOON))
    assert len({new_snapshot_id(NOON) for _ in range(9)}) > 1
    for later in (timedelta(milliseconds=1), timedelta(milliseconds=999), timedelta(seconds=1)):
        assert new_snapshot_id(NOON) < new_snapshot_id(NOON + later)
    assert time_text(NOON) == "2026-11-23T05:42:31Z"
    for write in (new_snapshot_id, time_text):
        with pytest.raises(ValueError, match="has no time zone"):
            write(NOON.replace(tzinfo=None))


def test_an_id_tells_when_its_run_started() -> None:
    assert started_at(new_snapshot_id(NOON)) == NOON


@pytest.mark.parametrize(
    "name", ["", "..", "../x", ID + "/..", ID.upper(), ID + "\n", ID.replace("1123", "1131")]
)
def test_only_ids_are_folders(name: str) -> None:
    with pytest.raises(StorageError, match="not a snapshot id"):
        snapshot_folder("out", name)


def test_a_missing_snapshot_is_reported_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere does not exist; check the spelling"):
        find_snapshot(str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"neither current nor manifest\.json"):
        find_snapshot(str(tmp_path))
    (tmp_path / "current").write_text(ID)
    with pytest.raises(CorruptFileError, match=rf"{ID}, which has no manifest\.json"):
        find_snapshot(str(tmp_path))
    (tmp_path / "current").write_text("../../etc")
    with pytest.raises(CorruptFileError, match=r"'\.\./\.\./etc', not a snapshot id"):
        find_snapshot(str(tmp_path))


def test_a_damaged_note_of_the_last_check_counts_as_none(tmp_path: Path) -> None:
    for damage in (b"", b"\xff", b"x y", ID[:-1].encode() + b" 2026-11-23T05:42:31Z"):
        (tmp_path / "checked").write_bytes(damage)
        assert checked_at(str(tmp_path), ID) is None
