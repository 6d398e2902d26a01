"""Runs, prune and readers that use one output folder at the same time, each in its own process.

Processes are stopped just before a system call, so that a test sees exactly one interleaving.
``make soak`` tries more of them, and lets many processes run freely.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from featureid.storage.snapshot import checked_at
from featureid.storage.verify import verify_snapshot
from tests.imports import ImportSamples
from tests.nightly_samples import Nights, contents
from tests.processes import wait_until
from tests.run_points import SHARD, WRITING, Point, actors, featureid, run_until, stopped

UNMARKED = ("nothing", "folder")
READING_PREVIOUS = Point("open", SHARD.format(0), 2, "mark")
#: Of a prune: before it removes a manifest, and after that, before it looks for runs once more.
RETIRING = Point("os.remove", "manifest.json", 1, "nothing")
RETIRED = Point("os.listdir", "/snapshots", 2, "nothing")
BEFORE_THE_MARK = [name for name, point in WRITING.items() if point.leaves in UNMARKED]
REMOVED = "was removed just as this run started; run it again"
ROUNDS = [3, pytest.param(60, marks=pytest.mark.soak)]
#: While a run does this, it holds a lock that others wait for.
PUBLISHING = (
    "writing the outcome",
    "writing the manifest",
    "renaming the manifest",
    "between manifest and current",
    "renaming current",
)


def some(*quick: str, points: Iterable[str] = WRITING) -> list[object]:
    """Return points of a run; all but the quick ones only for ``make soak``."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.soak) for name in points
    ]


def folders(output: Path) -> set[str]:
    return {folder.name for folder in (output / "snapshots").iterdir()}


def published(output: Path) -> set[str]:
    return {path.parent.name for path in output.glob("snapshots/*/manifest.json")}


def check_all(output: Path) -> None:
    """Check that the current snapshot and all others that are complete have no fault."""
    for place in (output, *(output / "snapshots" / snapshot for snapshot in published(output))):
        assert verify_snapshot(str(place)).ok, place


@pytest.fixture
def samples(tmp_path: Path) -> ImportSamples:
    """An output with one snapshot."""
    found = ImportSamples(tmp_path)
    found.run()
    return found


@pytest.mark.parametrize("name", some("renaming the second shard", "between manifest and current"))
def test_of_two_runs_the_one_that_publishes_later_becomes_current(
    name: str, samples: ImportSamples
) -> None:
    with stopped(WRITING[name], samples.arguments) as first:
        known, before = published(samples.output), folders(samples.output)
        with featureid(samples.arguments) as second:
            if name in PUBLISHING:
                wait_until(lambda: folders(samples.output) > before)
                first.finish()
            second.finish()
        # The first one may have published before.
        *_, later = sorted(published(samples.output) - known)
        assert samples.current == later
        check_all(samples.output)
        first.finish()
    if WRITING[name].leaves in (*UNMARKED, "mark") and name not in PUBLISHING:
        (later,) = published(samples.output) - known - {later}
    assert samples.current == later
    assert published(samples.output) == folders(samples.output)
    check_all(samples.output)


@pytest.mark.parametrize("name", some("renaming the second shard", "between manifest and current"))
def test_prune_beside_a_run_leaves_it_alone(name: str, samples: ImportSamples) -> None:
    point = WRITING[name]
    # A marked run's age does not matter as long as its process can be checked.
    options = [] if point.leaves in UNMARKED else ["--dead-after=0s"]
    prune = ["prune", str(samples.output), "--keep=1", *options]
    with stopped(point, samples.arguments) as run:
        wanted = folders(samples.output)
        current = samples.current
        with featureid(prune) as process:
            process.finish()
        assert folders(samples.output) == (wanted if point.leaves != "current" else {current})
        check_all(samples.output)
        run.finish()
    assert samples.current == max(folders(samples.output))
    with featureid(prune) as process:
        process.finish()
    assert folders(samples.output) == {samples.current}
    check_all(samples.output)


def test_a_reader_whose_snapshot_is_pruned_as_it_opens_it_gets_the_new_one(
    samples: ImportSamples,
) -> None:
    opening = Point("open", "/manifest.json", 1, "nothing")
    with stopped(opening, ["inspect", str(samples.output), "--json"]) as reader:
        for command in (samples.arguments, ["prune", str(samples.output), "--keep=1"]):
            with featureid(command) as process:
                process.finish()
        assert json.loads(reader.finish())["snapshot"] == samples.current


def test_of_two_prunes_one_waits(samples: ImportSamples) -> None:
    samples.run()
    prune = ["prune", str(samples.output), "--keep=1"]
    with stopped(RETIRED, prune) as first, featureid(prune) as second:
        assert "1 deleted" in first.finish()
        assert "0 deleted" in second.finish()
    assert folders(samples.output) == {samples.current}


@pytest.mark.parametrize("point", [RETIRED, pytest.param(RETIRING, marks=pytest.mark.soak)])
def test_what_a_killed_prune_leaves_is_deleted_by_the_next(
    point: Point, samples: ImportSamples
) -> None:
    samples.run()
    prune = ["prune", str(samples.output), "--keep=1"]
    assert run_until("kill", point, prune).returncode == -signal.SIGKILL
    check_all(samples.output)
    with featureid(prune) as process:
        assert "1 deleted" in process.finish()
    assert folders(samples.output) == {samples.current}


@pytest.mark.soak
def test_a_run_without_changes_beside_one_with_changes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = Nights(photos, tmp_path, capsys)
    nights.run()
    command = nights.arguments(nights.output)
    with stopped(READING_PREVIOUS, command) as unchanged:
        (nights.pictures / "rocket.jpg").unlink()
        new = nights.run()["folder"]
        unchanged.finish()
    assert new == str(nights.output / "snapshots" / nights.current)
    assert checked_at(str(nights.output), nights.current) is None
    nights.check()


class Carrying:
    """An output with two snapshots, and a run that carries rows from the older one.

    Attributes:
        output: the folder for snapshots.
        old: the id of the older snapshot.
        current: that of the newer one.
        run: the command line of the run.
        prune: that of a prune that deletes the older snapshot.
    """

    def __init__(self, nights: Nights) -> None:
        nights.run()
        self.output, self.old = nights.output, nights.current
        nights.run("--re-embed")
        self.current = nights.current
        folder = self.output / "snapshots" / self.old
        self.run = nights.arguments(self.output, "--previous", folder, "--max-deleted=1")
        self.prune = ["prune", str(self.output), "--keep=1"]


@pytest.fixture
def carrying(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Carrying:
    nights = Nights(photos, tmp_path, capsys)
    found = Carrying(nights)
    (nights.pictures / "rocket.jpg").unlink()
    return found


def check_carried(carrying: Carrying) -> None:
    """Check that a run has carried all rows, and that what it carried from goes now."""
    (new,) = folders(carrying.output) - {carrying.old, carrying.current}
    assert len(contents(carrying.output / "snapshots" / new)[0]) == 5
    check_all(carrying.output)
    with featureid(carrying.prune) as prune:
        prune.finish()
    assert folders(carrying.output) == {(carrying.output / "current").read_text().strip()}


def test_a_snapshot_that_a_run_carries_from_is_not_pruned(carrying: Carrying) -> None:
    with stopped(READING_PREVIOUS, carrying.run) as run:
        with featureid(carrying.prune) as prune:
            prune.finish()
        assert carrying.old in published(carrying.output)
        run.finish()
    check_carried(carrying)


@pytest.mark.soak
def test_a_run_that_starts_in_the_middle_of_a_prune_keeps_its_previous_snapshot(
    carrying: Carrying,
) -> None:
    with stopped(RETIRING, carrying.prune) as prune, stopped(READING_PREVIOUS, carrying.run) as run:
        prune.finish()
        assert carrying.old in published(carrying.output)
        run.finish()
    check_carried(carrying)


@pytest.mark.parametrize("name", some("renaming the mark", points=BEFORE_THE_MARK))
def test_a_run_whose_previous_snapshot_is_being_pruned_ends_and_leaves_nothing(
    name: str, carrying: Carrying
) -> None:
    with stopped(WRITING[name], carrying.run) as run, stopped(RETIRED, carrying.prune) as prune:
        assert REMOVED in run.finish(status=1)
        prune.finish()
    assert folders(carrying.output) == {carrying.current}
    check_all(carrying.output)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_imports_a_prune_and_readers_all_at_once(rounds: int, samples: ImportSamples) -> None:
    """Two imports at a time, of which one is killed at any moment, and a prune that keeps one."""
    chance = random.Random(rounds)
    with actors(str(samples.output), "read", "read", "prune 1"):
        for _ in range(rounds):
            with featureid(samples.arguments) as one, featureid(samples.arguments) as two:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.popen.wait(chance.uniform(0.2, 1.2))
                one.popen.kill()
                two.finish()
    check_all(samples.output)
    with featureid(["prune", str(samples.output), "--keep=1"]) as prune:
        prune.finish()
    # What was killed before it was marked goes by its age.
    assert [path.parent.name for path in samples.output.glob("snapshots/*/run.json")] == [
        samples.current
    ]


@pytest.mark.soak
def test_incremental_runs_a_prune_and_readers_all_at_once(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = Nights(photos, tmp_path, capsys)
    nights.run()
    command = nights.arguments(nights.output)
    data = (nights.pictures / "rocket.jpg").read_bytes()
    with actors(str(nights.output), "read", "read", "prune 2"):
        for number in range(20):
            (nights.pictures / f"{number % 3}.jpg").write_bytes(data + bytes([number]))
            with featureid(command) as one, featureid(command) as two:
                one.finish()
                two.finish()
    check_all(nights.output)
    nights.check()
