"""Runs that are killed: the previous snapshot stays current, and the next run makes up for it.

The points follow a run from its start to its end. ``make soak`` tries all of them, the default run
some.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.storage.verify import verify_snapshot
from tests.imports import ImportSamples
from tests.nightly_samples import Nights, contents
from tests.run_points import SHARD, WRITING, Point, run_until, stopped

EMBEDDING = {
    "listing the input": Point("os.scandir", "/pictures", 1, "nothing"),
    "loading the model": Point("open", ".fidmodel", 1, "nothing"),
    "reading the previous rows": Point("open", SHARD.format(0), 2, "mark"),
    "reading the first image": Point("open", "/pictures/", 1, "mark"),
    "reading the last image": Point("open", "/pictures/", 2, "mark"),
    **WRITING,
}
QUICK = ("reading the last image", "renaming the second shard", "between manifest and current")
QUICK_IMPORTS = ("marking the run", "writing the second shard", "between manifest and current")


def some(points: dict[str, Point], quick: tuple[str, ...]) -> list[object]:
    """The names of the points; all but the quick ones only for ``make soak``."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.soak) for name in points
    ]


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    """A folder that was embedded; since then, two images were added and one was deleted."""
    found = Nights(photos, tmp_path, capsys)
    found.run()
    for name in ("one", "two"):
        shutil.copy(found.pictures / "rocket.jpg", found.pictures / f"{name}.jpg")
    (found.pictures / "coffee.jpg").unlink()
    return found


@pytest.mark.parametrize("name", some(EMBEDDING, QUICK))
def test_a_killed_embed_leaves_a_whole_snapshot(name: str, nights: Nights) -> None:
    point = EMBEDDING[name]
    before, rows = nights.current, contents(nights.output)
    done = run_until("kill", point, nights.arguments(nights.output, "--threads=1"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    new = left_by(point, nights.output, before)
    if point.leaves != "current":
        assert contents(nights.output) == rows

    summary = nights.run()
    if point.leaves != "current":
        assert (summary["changes"]["new"], summary["changes"]["deleted"]) == (2, 1)
    nights.check()
    check_prune(point, nights.output, new)


@pytest.mark.parametrize("name", some(WRITING, QUICK_IMPORTS))
def test_a_killed_import_leaves_a_whole_snapshot(name: str, tmp_path: Path) -> None:
    point, samples = WRITING[name], ImportSamples(tmp_path)
    before = samples.run()
    done = run_until("kill", point, samples.arguments)
    assert done.returncode == -signal.SIGKILL, done.stderr
    new = left_by(point, samples.output, before)
    samples.run()
    check_prune(point, samples.output, new)


def left_by(point: Point, output: Path, before: str) -> Path | None:
    """Check what a run that was killed at a point has left, and return its folder."""
    assert verify_snapshot(str(output)).ok
    new = [folder for folder in (output / "snapshots").iterdir() if folder.name != before]
    if point.leaves == "nothing":
        assert not new
        return None
    (folder,) = new
    assert (folder / "run.json").exists() == (point.leaves != "folder")
    assert (folder / "manifest.json").exists() == (point.leaves in ("complete", "current"))
    current = folder.name if point.leaves == "current" else before
    assert (output / "current").read_text().strip() == current
    return folder


def check_prune(point: Point, output: Path, new: Path | None) -> None:
    """Check that what a dead run has left goes at once if it was marked, else by its age."""
    current = (output / "current").read_text().strip()
    unmarked = {new.name} if new and point.leaves == "folder" else set()
    for options, left in (([], unmarked), (["--dead-after=0h"], set())):
        assert cli.main(["prune", str(output), "--keep=1", *options]) == 0
        assert {folder.name for folder in (output / "snapshots").iterdir()} == {current, *left}
    assert verify_snapshot(str(output)).ok


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_as_an_interrupt_does(number: signal.Signals, tmp_path: Path) -> None:
    samples = ImportSamples(tmp_path)
    with stopped(WRITING["writing the second shard"], samples.arguments) as process:
        process.popen.send_signal(number)
        assert process.finish(status=130) == "featureid: interrupted\n"
    assert not samples.output.exists()


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
    done = run_until(error, EMBEDDING[point], nights.arguments(nights.output, "--threads=1"))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("featureid: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Cannot write" in line and os.strerror(getattr(errno, error)) in line
    assert nights.current == before
    assert verify_snapshot(str(nights.output)).ok and contents(nights.output) == rows
    nights.run()
    nights.check()
