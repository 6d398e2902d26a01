"""Snapshots become visible all at once or not at all."""

from __future__ import annotations

import gzip
import re
import subprocess
from datetime import datetime, timedelta, timezone

import pytest

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import (
    Failure,
    created_text,
    current_snapshot,
    files,
    find_snapshot,
    new_snapshot_id,
    open_snapshot,
    publish,
    snapshot_folder,
    write_failures,
)
from tests.storage_samples import FAILURES, ID, make_info, write_files, write_snapshot

OLDER, NEWER = "20261122T010203Z-ffffff", "20261124T010203Z-000000"
NOON = datetime(2026, 11, 23, 13, 42, 31, tzinfo=timezone(timedelta(hours=8)))


def test_ids_and_times_are_utc():
    assert re.fullmatch(r"20261123T054231Z-[0-9a-f]{6}", new_snapshot_id(NOON))
    assert len({new_snapshot_id(NOON) for _ in range(9)}) > 1
    for later in (timedelta(milliseconds=1), timedelta(milliseconds=999), timedelta(seconds=1)):
        assert new_snapshot_id(NOON) < new_snapshot_id(NOON + later)
    assert created_text(NOON) == "2026-11-23T05:42:31Z"
    with pytest.raises(StorageError, match="has no zone"):
        new_snapshot_id(NOON.replace(tzinfo=None))


@pytest.mark.parametrize("name", ["", "..", "../x", ID + "/..", ID.upper(), ID + "\n"])
def test_only_ids_are_folders(name):
    with pytest.raises(StorageError, match="no snapshot id"):
        snapshot_folder("out", name)


def test_failures_are_sorted_gzipped_lines(tmp_path):
    summary = write_failures(str(tmp_path), FAILURES)
    path = tmp_path / "failures-00000-of-00001.jsonl.gz"
    assert summary.file == path.name
    assert summary.bytes == path.stat().st_size
    subprocess.run(["gzip", "-t", path], check=True)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert [Failure.from_json(line) for line in lines] == sorted(FAILURES)
    again = write_failures(str(tmp_path), reversed(FAILURES))
    assert again == summary


def test_no_failures_make_an_empty_gzip_file(tmp_path):
    summary = write_failures(str(tmp_path), [])
    assert summary.rows == 0
    assert gzip.decompress((tmp_path / summary.file).read_bytes()) == b""


def test_what_is_not_published_is_not_seen(tmp_path):
    write_snapshot(tmp_path, ["a", "b"], snapshot=OLDER)
    manifest = write_files(tmp_path, make_info(3), ["c"])
    assert find_snapshot(str(tmp_path)).endswith(OLDER)
    assert (
        open_snapshot(str(tmp_path)).row_keys()
        == open_snapshot(snapshot_folder(str(tmp_path), OLDER)).row_keys()
    )
    with pytest.raises(StorageError, match="holds no complete snapshot"):
        open_snapshot(snapshot_folder(str(tmp_path), ID))
    publish(str(tmp_path), manifest)
    assert open_snapshot(str(tmp_path)).row_keys() == ["c"]


def test_a_crash_at_any_write_of_publish_leaves_readers_with_a_whole_snapshot(
    tmp_path, monkeypatch
):
    write_snapshot(tmp_path, ["a"], snapshot=OLDER)
    manifest = write_files(tmp_path, make_info(3), ["c"])
    real, seen = files.write_atomic, []

    for survivors in range(2):
        calls = iter(range(99))

        def dies(uri, chunks, calls=calls, survivors=survivors):
            if next(calls) >= survivors:
                raise StorageError("killed")
            return real(uri, chunks)

        monkeypatch.setattr(files, "write_atomic", dies)
        with pytest.raises(StorageError, match="killed"):
            publish(str(tmp_path), manifest)
        seen.append(open_snapshot(str(tmp_path)).row_keys())
    assert seen == [["a"], ["a"]]
    monkeypatch.undo()
    publish(str(tmp_path), manifest)
    publish(str(tmp_path), manifest)
    assert open_snapshot(str(tmp_path)).row_keys() == ["c"]


def test_nothing_is_published_when_a_file_is_missing_or_short(tmp_path):
    manifest = write_files(tmp_path, make_info(2), ["a", "b", "c"])
    victim = tmp_path / "snapshots" / ID / manifest.embeddings[1].file
    data = victim.read_bytes()
    victim.write_bytes(data[:-1])
    with pytest.raises(StorageError, match=f"{len(data) - 1} bytes where {len(data)} were written"):
        publish(str(tmp_path), manifest)
    victim.unlink()
    with pytest.raises(StorageError, match=victim.name):
        publish(str(tmp_path), manifest)
    assert current_snapshot(str(tmp_path)) is None


def test_current_never_goes_back(tmp_path):
    write_snapshot(tmp_path, ["a"], snapshot=NEWER)
    write_snapshot(tmp_path, ["b"], snapshot=OLDER)
    assert current_snapshot(str(tmp_path)) == NEWER
    assert (tmp_path / "current").read_text() == NEWER + "\n"
    assert open_snapshot(str(tmp_path / "snapshots" / OLDER)).row_keys() == ["b"]


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(StorageError, match="nowhere does not exist; check the spelling"):
        find_snapshot(str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match=r"neither current nor manifest\.json"):
        find_snapshot(str(tmp_path))
    (tmp_path / "current").write_text(ID)
    with pytest.raises(StorageError, match=rf"{ID} has no manifest\.json"):
        find_snapshot(str(tmp_path))
    (tmp_path / "current").write_text("../../etc")
    with pytest.raises(CorruptFileError, match=r"'\.\./\.\./etc', not a snapshot id"):
        find_snapshot(str(tmp_path))
