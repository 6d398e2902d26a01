"""Disks that fail at any call: one line, nothing half-published, and nothing left behind."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.errors import StorageError
from featureid.storage.lifecycle import prune
from featureid.storage.reader import open_snapshot
from featureid.storage.run_record import read_run, write_run
from featureid.storage.snapshot import new_snapshot_id, newest_of, read_sequences
from featureid.storage.verify import verify_snapshot
from tests.faulty_system import CALLS, failing
from tests.nightly_samples import Nights
from tests.storage_samples import write_snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def check(output: Path, run: Callable[[], object], call: str, number: int) -> int:
    """Run something of which one call fails, check what it leaves, and count the calls."""
    with failing(call, number, output) as count, contextlib.suppress(StorageError):
        run()
    place = f"{call} {number} of {count.calls}"
    left = [path for path in output.rglob("*") if path.name.startswith(".")]
    assert left == [], place
    complete = {path.parent for path in output.glob("snapshots/*/manifest.json")}
    assert set((output / "snapshots").iterdir()) == complete, place
    assert all(verify_snapshot(folder).ok for folder in complete), place
    assert len(open_snapshot(output)) > 0, place
    for folder in complete:  # The process that has made them still runs.
        record = read_run(str(folder))
        assert record is not None
        write_run(str(folder), replace(record, state="committed"))
    # One that could not become current is newer than what is, so that prune would leave it.
    (output / "current").write_text(str(newest_of(read_sequences(str(output), "snapshots"))))
    prune(str(output), 1, datetime.now(UTC), timedelta(days=1))
    return count.calls


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("call", CALLS)
def test_a_run_on_a_disk_that_fails_at_any_call(tmp_path: Path, call: str, step: int) -> None:
    def run() -> None:
        write_snapshot(tmp_path, ["a", "b"], 1, snapshot=new_snapshot_id(datetime.now(UTC)))

    run()
    number = 1
    while check(tmp_path, run, call, number) >= number:
        number += step
    assert number > 1


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
def test_an_embed_on_a_disk_that_fails_at_any_call(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    nights = Nights(photos, tmp_path, capsys)
    for name in ("bad", "astronaut", "camera", "chelsea"):
        (nights.pictures / f"{name}.jpg").unlink()
    nights.run()

    def run() -> None:
        status = cli.main(nights.arguments(nights.output, "--re-embed", "--log-level=error"))
        err = capsys.readouterr().err
        assert status in (0, 1) and err.count("\n") == status, err

    number = 1
    while check(nights.output, run, call, number) >= number:
        number += 11 if call in ("close", "open", "pread") else 4  # The test above tries all.
