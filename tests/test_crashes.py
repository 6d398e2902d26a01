"""Runs that die: the snapshot before stays current, and the next run gives what a full one gives.

The points at which a run is killed follow it from its start to its end. ``make soak`` tries them
all, the default run three of them.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from featureid.storage import verify_snapshot
from pipelines import cli
from tests.nightly_samples import Nights, contents

ROOT = Path(__file__).parents[1]
SHARD = "embeddings-0000{}-of-00002.fid.gz"

# Name: audit event, part of the path, which one, whether the new snapshot is complete by then.
POINTS = {
    "listing the input": ("os.scandir", "/pictures", 1, False),
    "loading the model": ("open", ".fidmodel", 1, False),
    "making the folder": ("os.mkdir", "/snapshots/", 1, False),
    "marking the run": ("open", ".run.json.", 1, False),
    "renaming the mark": ("os.rename", "run.json", 1, False),
    "reading the previous rows": ("open", SHARD.format(0), 2, False),
    "reading the first picture": ("open", "/pictures/", 1, False),
    "reading the last picture": ("open", "/pictures/", 2, False),
    "writing the first shard": ("open", f".{SHARD.format(0)}.", 1, False),
    "renaming the first shard": ("os.rename", SHARD.format(0), 1, False),
    "writing the second shard": ("open", f".{SHARD.format(1)}.", 1, False),
    "renaming the second shard": ("os.rename", SHARD.format(1), 1, False),
    "writing the failures": ("open", ".failures-", 1, False),
    "writing the report": ("open", ".run.json.", 2, False),
    "writing the manifest": ("open", ".manifest.json.", 1, False),
    "renaming the manifest": ("os.rename", "manifest.json", 1, False),
    "between manifest and current": ("open", ".current.", 1, True),
    "renaming current": ("os.rename", "/current", 1, True),
}
QUICK = ("reading the last picture", "renaming the second shard", "between manifest and current")


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    """An embedded folder, to which two pictures have come since and from which one has gone."""
    found = Nights(photos, tmp_path, capsys)
    found.refresh()
    for name in ("one", "two"):
        shutil.copy(found.pictures / "rocket.jpg", found.pictures / f"{name}.jpg")
    (found.pictures / "coffee.jpg").unlink()
    return found


@pytest.mark.parametrize(
    "point",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in POINTS],
)
def test_a_run_killed_at_any_point_leaves_the_snapshot_before(point: str, nights: Nights) -> None:
    event, pattern, number, complete = POINTS[point]
    before, rows = nights.current, contents(nights.output)
    command = [sys.executable, str(ROOT / "tests" / "kill_at.py"), event, pattern, str(number)]
    done = subprocess.run(
        [*command, *nights.arguments(nights.output, "--previous=auto", "--threads=1")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert nights.current == before
    assert verify_snapshot(str(nights.output)).ok and contents(nights.output) == rows
    new = [p for p in (nights.output / "snapshots").iterdir() if p.name != before]
    assert [(folder / "manifest.json").exists() for folder in new] in ([], [complete])

    summary = nights.refresh()
    assert (summary["changes"]["new"], summary["changes"]["deleted"]) == (2, 1)
    nights.check()
    # The process is known to have ended, so that its rubble goes at once; snapshots go by age.
    assert cli.main(["prune", str(nights.output), "--keep=1"]) == 0
    assert [p.name for p in (nights.output / "snapshots").iterdir()] == [nights.current]


def file_size_limit(limit: int) -> Callable[[], None]:
    """What makes every write past ``limit`` bytes of a file fail, as a full disk does."""

    def set_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return set_limit


@pytest.mark.parametrize("limit", [100, 2500])
def test_a_disk_that_is_full_leaves_the_snapshot_before(limit: int, nights: Nights) -> None:
    before = nights.current
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipelines.cli"),
            *nights.arguments(nights.output, "--previous=auto"),
        ],
        cwd=ROOT,
        preexec_fn=file_size_limit(limit),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Cannot write" in done.stderr and "Traceback" not in done.stderr
    assert nights.current == before and verify_snapshot(str(nights.output)).ok
    assert [p.name for p in (nights.output / "snapshots").iterdir()] == [before]
    nights.refresh()
    nights.check()
