"""Runs that die: the snapshot before stays current, and the next run gives what a full one gives.

The points at which a run is killed follow it from its start to its end. ``make soak`` tries them
all, the default run three of them.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.storage.verify import verify_snapshot
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
    complete = POINTS[point][-1]
    before, rows = nights.current, contents(nights.output)
    done = run_until(nights, "kill", point)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert nights.current == before
    assert verify_snapshot(str(nights.output)).ok and contents(nights.output) == rows
    new = [p for p in (nights.output / "snapshots").iterdir() if p.name != before]
    assert [(folder / "manifest.json").exists() for folder in new] in ([], [complete])

    summary = nights.refresh()
    assert (summary["changes"]["new"], summary["changes"]["deleted"]) == (2, 1)
    nights.check()
    # Of a marked run it is known that its process has ended; what is not marked goes by its age.
    unmarked = {folder.name for folder in new if not (folder / "run.json").exists()}
    for options, left in (([], unmarked), (["--dead-after=0h"], set())):
        assert cli.main(["prune", str(nights.output), "--keep=1", *options]) == 0
        assert {p.name for p in (nights.output / "snapshots").iterdir()} == {nights.current, *left}


@pytest.mark.parametrize(
    ("error", "point"),
    [
        ("ENOSPC", "writing the second shard"),
        ("EROFS", "renaming the second shard"),
        ("ENOSPC", "writing the manifest"),
        ("EROFS", "between manifest and current"),
    ],
)
def test_a_disk_that_fails_half_way_leaves_the_snapshot_before(
    error: str, point: str, nights: Nights
) -> None:
    before, rows = nights.current, contents(nights.output)
    done = run_until(nights, error, point)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("featureid: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Cannot write" in line and os.strerror(getattr(errno, error)) in line
    assert nights.current == before
    assert verify_snapshot(str(nights.output)).ok and contents(nights.output) == rows
    nights.refresh()
    nights.check()


def run_until(nights: Nights, fate: str, point: str) -> subprocess.CompletedProcess[str]:
    """Refresh in a process of its own that meets its fate at a point."""
    event, pattern, number, _ = POINTS[point]
    command = [sys.executable, str(ROOT / "tests" / "fail_at.py"), fate, event, pattern]
    return subprocess.run(
        [*command, str(number), *nights.arguments(nights.output, "--previous=auto", "--threads=1")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
