"""Listing snapshots, and removing old ones and rubble but never what is in use."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.errors import UsageError
from featureid.storage import history, prepare_snapshot, run_record, verify_snapshot
from featureid.storage.history import list_snapshots, prune
from featureid.storage.run_record import (
    RunReport,
    process_has_ended,
    read_run,
    started_at,
    this_process,
    write_run,
)
from tests.storage_samples import write_snapshot

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)
IDS = [f"2026112{n}T000000Z-00000{n}" for n in range(5)]
RUNNING = "20261129T230000Z-aaaaaa"
OLD_RUN = "20261120T230000Z-bbbbbb"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for snapshot in IDS:
        write_snapshot(tmp_path, ["a", "b"], 1, snapshot=snapshot)
    return tmp_path


def report(snapshot: str, previous: str = "", process: str = "") -> RunReport:
    return RunReport(snapshot, "2026-11-29T23:00:00Z", "test", {}, {}, previous, process)


def start_run(output: Path, snapshot: str, previous: str = "", process: str = "") -> None:
    folder = prepare_snapshot(str(output), snapshot)
    write_run(folder, report(snapshot, previous, process))


def folders(output: Path) -> list[str]:
    return sorted(folder.name for folder in (output / "snapshots").iterdir())


def ended_process() -> str:
    code = "from featureid.storage.run_record import this_process; print(this_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def states(output: Path) -> dict[str, str]:
    found = {}
    for entry in list_snapshots(str(output), NOW, DAY):
        state = "current" if entry.current else "complete" if entry.complete else ""
        found[entry.snapshot] = state or ("dead" if entry.dead else "running")
    return found


def test_snapshots_are_listed_by_age_with_their_state(output: Path) -> None:
    start_run(output, RUNNING)
    start_run(output, OLD_RUN)
    (output / "snapshots" / "notes").mkdir()
    assert states(output) == {
        IDS[0]: "complete",
        OLD_RUN: "dead",
        **dict.fromkeys(IDS[1:4], "complete"),
        IDS[4]: "current",
        RUNNING: "running",
    }
    entries = {entry.snapshot: entry for entry in list_snapshots(str(output), NOW, DAY)}
    assert entries[IDS[0]].manifest and entries[IDS[0]].manifest.rows == 2
    assert list_snapshots(str(output / "nothing"), NOW, DAY) == []


def test_the_newest_stay(output: Path) -> None:
    assert prune(str(output), 2, NOW, DAY) == IDS[:3]
    assert folders(output) == IDS[3:]
    assert prune(str(output), 2, NOW, DAY) == []


def test_the_current_snapshot_stays_even_if_it_is_old(output: Path) -> None:
    (output / "current").write_text(IDS[0] + "\n")
    assert prune(str(output), 1, NOW, DAY) == IDS[1:]
    assert verify_snapshot(str(output)).ok
    with pytest.raises(UsageError, match="--keep is 0"):
        prune(str(output), 0, NOW, DAY)


def test_what_a_run_carries_from_stays_until_the_run_has_ended(output: Path) -> None:
    start_run(output, RUNNING, previous=IDS[1], process=this_process())
    assert prune(str(output), 1, NOW, DAY) == [IDS[0], IDS[2], IDS[3]]
    folder = prepare_snapshot(str(output), RUNNING)
    ended = read_run(folder)
    assert ended is not None
    write_run(folder, replace(ended, counts={"images": 2}))
    assert prune(str(output), 1, NOW, DAY) == [IDS[1]]
    assert folders(output) == [IDS[4], RUNNING]


def test_a_run_whose_process_has_ended_is_rubble_at_once(output: Path) -> None:
    start_run(output, RUNNING, previous=IDS[0], process=ended_process())
    assert prune(str(output), 5, NOW, DAY) == [RUNNING]


def test_a_run_that_starts_meanwhile_gets_its_previous_snapshot_back(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = history.files.remove

    def remove_and_start_run(place: str) -> None:
        remove(place)
        if not (output / "snapshots" / RUNNING).exists():
            start_run(output, RUNNING, previous=IDS[0])

    monkeypatch.setattr(history.files, "remove", remove_and_start_run)
    assert prune(str(output), 4, NOW, DAY) == []
    assert verify_snapshot(str(output / "snapshots" / IDS[0])).ok


def test_a_report_survives_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    folder = prepare_snapshot(str(tmp_path), RUNNING)
    assert read_run(folder) is None
    written = replace(report(RUNNING, IDS[0], "p"), counts={"images": 3}, timings={"list": 0.5})
    write_run(folder, written)
    assert read_run(folder) == written
    for damage in (b"", b"[]", b"{}", b'{"format": "featureid-run"}', b"\xff"):
        Path(folder, run_record.RUN).write_bytes(damage)
        assert read_run(folder) is None


def test_processes_are_told_apart() -> None:
    own = this_process()
    assert not process_has_ended(own)
    assert process_has_ended(ended_process())
    place, _, _ = own.partition(" ")
    assert process_has_ended(f"{place} {os.getpid()} 1")
    for elsewhere in ("", "other-host/x/y 1 1", own.replace(place, "elsewhere")):
        assert not process_has_ended(elsewhere)


def test_an_id_tells_when_its_run_started() -> None:
    assert started_at(RUNNING) == datetime(2026, 11, 29, 23, tzinfo=UTC)
