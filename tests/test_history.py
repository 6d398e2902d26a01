"""Snapshots are listed with their state, and runs recorded with theirs."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.errors import StorageError
from featureid.storage import process
from featureid.storage.history import list_snapshots
from featureid.storage.process import state_of, this_process
from featureid.storage.run_record import RUN, RunRecord, read_run, write_run
from tests.processes import ended_process
from tests.storage_samples import make_info, make_writer, write_snapshot

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)
IDS = [f"2026112{n}T000000Z-00000{n}" for n in range(3)]
RUNNING = "20261129T230000Z-aaaaaa"
OLD_RUN = "20261120T230000Z-bbbbbb"


def states(output: Path) -> dict[str, str]:
    found = {}
    for entry in list_snapshots(str(output), NOW, DAY):
        state = "current" if entry.current else "complete" if entry.complete else ""
        found[entry.snapshot] = state or ("dead" if entry.dead else "running")
    return found


def test_snapshots_are_listed_by_age_with_their_state(tmp_path: Path) -> None:
    for snapshot in IDS:
        write_snapshot(tmp_path, ["a", "b"], 1, snapshot=snapshot)
    for snapshot in (RUNNING, OLD_RUN):
        make_writer(tmp_path, make_info(snapshot=snapshot)).begin()
    (tmp_path / "snapshots" / "notes").mkdir()
    assert states(tmp_path) == {
        IDS[0]: "complete",
        OLD_RUN: "dead",
        IDS[1]: "complete",
        IDS[2]: "current",
        RUNNING: "running",
    }
    entries = {entry.snapshot: entry for entry in list_snapshots(str(tmp_path), NOW, DAY)}
    manifest = entries[IDS[0]].manifest
    assert manifest is not None and manifest.rows == 2
    with pytest.raises(StorageError, match="nothing does not exist"):
        list_snapshots(str(tmp_path / "nothing"), NOW, DAY)


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert read_run(str(tmp_path)) is None
    begun = RunRecord.begin(make_info(), {"a": [1]}, {"b": "2"}, previous=IDS[0], process="p")
    written = replace(begun, counts={"images": 3}, timings={"list": 0.5})
    write_run(str(tmp_path), written)
    assert read_run(str(tmp_path)) == written
    odd = replace(written, options={"inputs": ["/caf\udce9"]})
    write_run(str(tmp_path), odd)
    assert read_run(str(tmp_path)) == replace(odd, options={"inputs": ["/caf?"]})
    text = Path(tmp_path, RUN).read_bytes()
    Path(tmp_path, RUN).write_bytes(text.replace(b'"snapshot"', b'"later": [1], "snapshot"'))
    assert read_run(str(tmp_path)) is not None
    damages = [b"", b"[]", b"{}", b'{"format": "featureid-run"}', b"\xff"]
    for old, new in (
        (b"featureid-run", b"x"),
        (b'"p"', b"7"),
        (b'"running"', b'"x"'),
        (b'"images": 3', b'"images": "3"'),
        (b"Z-3f", b"x"),
    ):
        assert old in text
        damages.append(text.replace(old, new))
    for damage in damages:
        Path(tmp_path, RUN).write_bytes(damage)
        assert read_run(str(tmp_path)) is None


def test_a_process_is_checked_by_its_start_time() -> None:
    own = this_process()
    assert state_of(own) == "running"
    assert state_of(ended_process()) == "ended"
    machine, _, _ = own.partition(" ")
    assert state_of(f"{machine} {os.getpid()} 1") == "ended"
    for elsewhere in ("", "x", "other-host/x/y 1 1", own.replace(machine, "elsewhere"), machine):
        assert state_of(elsewhere) == "unknown"


def test_a_process_whose_start_time_is_hidden_cannot_be_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, ended = this_process(), ended_process()
    monkeypatch.setattr(process, "Path", lambda _: Path("/nowhere"))
    monkeypatch.setattr(process, "_machine", lambda: own.partition(" ")[0])
    assert state_of(own) == "unknown"
    assert state_of(ended) == "ended"


def test_a_record_that_cannot_be_read_is_an_error_and_never_a_run_that_is_over(
    tmp_path: Path,
) -> None:
    (tmp_path / RUN).mkdir()
    with pytest.raises(StorageError, match=r"Cannot read .*run\.json"):
        read_run(str(tmp_path))
