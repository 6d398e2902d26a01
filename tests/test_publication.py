"""Snapshots are ordered by publication, and readers always get one that is complete."""

from __future__ import annotations

import contextlib
import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.errors import StorageError
from featureid.storage import files
from featureid.storage.history import list_snapshots
from featureid.storage.lifecycle import SnapshotWriter, prune
from featureid.storage.manifest import digest_of
from featureid.storage.reader import open_snapshot
from featureid.storage.run_record import RUN, read_run, write_run
from featureid.storage.snapshot import current_snapshot, newest_of, read_current, read_sequences
from featureid.storage.verify import verify_snapshot
from tests.commands import run_here
from tests.storage_samples import make_info, make_row, make_writer, write_shards, write_snapshot

IDS = [f"2026112{n}T000000Z-00000{n}" for n in range(5)]
AHEAD = "20991231T235959Z-ffffff"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def begun(output: Path | str, snapshot: str) -> SnapshotWriter:
    writer = make_writer(output, make_info(snapshot=snapshot))
    writer.begin()
    return writer


def commit(writer: SnapshotWriter, *keys: str) -> None:
    writer.commit(write_shards(writer, [make_row(key) for key in keys]), [], {})


def listed(output: Path) -> list[str]:
    return [entry.snapshot for entry in list_snapshots(str(output), NOW, DAY)]


def test_the_snapshot_that_was_published_last_is_current_whatever_the_clocks_say(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = [IDS[1], AHEAD, IDS[0], IDS[4]]
    for number, snapshot in enumerate(order, start=1):
        assert write_snapshot(tmp_path, [snapshot], snapshot=snapshot).sequence == number
        assert current_snapshot(str(tmp_path)) == snapshot
        assert open_snapshot(str(tmp_path)).row_keys() == [snapshot]
    assert listed(tmp_path) == order
    assert prune(str(tmp_path), 2, NOW, DAY) == order[:2]
    (warning,) = caplog.messages  # of the run that found the one of a clock that is ahead
    assert f"names {AHEAD}, whose run started in the future" in warning and "clocks" in warning


def test_a_long_run_that_ends_after_a_short_one_is_current(tmp_path: Path) -> None:
    long, short = begun(tmp_path, IDS[0]), begun(tmp_path, IDS[1])
    commit(short, "short")
    commit(long, "long")
    assert open_snapshot(str(tmp_path)).row_keys() == ["long"]
    assert prune(str(tmp_path), 1, NOW, DAY) == [IDS[1]]


def test_after_a_rollback_the_next_run_is_current_and_newer_than_all(tmp_path: Path) -> None:
    for snapshot in IDS[:3]:
        write_snapshot(tmp_path, ["a"], snapshot=snapshot)
    (tmp_path / "current").write_text(IDS[0] + "\n")
    assert prune(str(tmp_path), 1, NOW, DAY) == []
    assert write_snapshot(tmp_path, ["a"], snapshot=IDS[3]).sequence == 4
    assert current_snapshot(str(tmp_path)) == IDS[3]
    assert prune(str(tmp_path), 1, NOW, DAY) == IDS[:3]


@pytest.mark.parametrize("current", [None, b"", b"\xff\n", b"../../etc", IDS[4].encode() + b"\n"])
def test_without_a_current_file_that_is_right_the_newest_complete_snapshot_is_read_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, current: bytes | None
) -> None:
    for snapshot in (IDS[3], IDS[0], IDS[2]):
        write_snapshot(tmp_path, [snapshot], snapshot=snapshot)
    begun(tmp_path, IDS[4])
    place = tmp_path / "current"
    place.unlink() if current is None else place.write_bytes(current)
    assert open_snapshot(str(tmp_path)).row_keys() == [IDS[2]]
    (warning,) = caplog.messages
    assert f"{place} " in warning and "the newest complete snapshot is read" in warning
    states = {entry.snapshot: entry.current for entry in list_snapshots(str(tmp_path), NOW, DAY)}
    assert states[IDS[2]] and not states[IDS[0]] and not states[IDS[3]]
    assert prune(str(tmp_path), 1, NOW, timedelta(days=9)) == [IDS[3], IDS[0]]
    caplog.clear()
    begun(tmp_path, "20261129T000000Z-000009").discard()
    assert place.read_text() == IDS[2] + "\n" and "it now names the newest" in caplog.text
    caplog.clear()
    assert open_snapshot(str(tmp_path)).row_keys() == [IDS[2]] and not caplog.messages


def test_a_run_is_not_pruned_between_its_manifest_and_current_however_long_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process cannot be checked, and it has run for longer than `dead_after`."""
    write_snapshot(tmp_path, ["a"], snapshot=IDS[0])
    writer = begun(tmp_path, IDS[1])
    real, pruned = files.write_atomic, []

    def prune_first(uri: str, chunks: list[bytes]) -> int:
        if uri.endswith("/current"):
            pruned.append(prune(str(tmp_path), 1, NOW + 99 * DAY, timedelta(0)))
        return real(uri, chunks)

    monkeypatch.setattr(files, "write_atomic", prune_first)
    commit(writer, "b")
    assert pruned == [[]] and open_snapshot(str(tmp_path)).row_keys() == ["b"]


def publish_overtaken(place: str, step: int) -> int:
    """Publish, and let another run do all of that just before a step; return the number of steps.

    Args:
        place: an output in an object store, which has no locks.
        step: number of a call of the file system, from 1.
    """
    first, second = (begun(place, snapshot) for snapshot in IDS[:2])
    shards, other_shards = (write_shards(run, [make_row("a")]) for run in (first, second))
    steps = 0

    def counted(real: Callable[..., object]) -> object:
        def call(*arguments: object) -> object:
            nonlocal steps
            steps += 1
            if steps == step:
                second.commit(other_shards, [], {})
            return real(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("exists", "list_folder", "read_bytes", "write_atomic"):
            patch.setattr(files, name, counted(getattr(files, name)))
        first.commit(shards, [], {})
    return steps


def test_of_runs_that_publish_at_once_without_locks_the_newest_ends_up_current() -> None:
    for step in itertools.count(1):
        place = f"memory://{uuid.uuid4().hex}/out"
        if publish_overtaken(place, step) < step:
            break
        found = read_sequences(place, "snapshots")
        assert len(found) == 2 and current_snapshot(place) == newest_of(found), step
    assert step > 20


def test_a_run_that_is_published_but_not_current_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where there are no locks: another run publishes just before it writes `current`."""
    first, second = begun(tmp_path, IDS[0]), begun(tmp_path, IDS[1])
    real, once = files.write_atomic, iter([True])
    monkeypatch.setattr(files, "exclusive", lambda _: contextlib.nullcontext())

    def overtaken(uri: str, chunks: list[bytes]) -> int:
        if uri.endswith("/current") and next(once, False):
            commit(second, "b")
        return real(uri, chunks)

    monkeypatch.setattr(files, "write_atomic", overtaken)
    commit(first, "a")
    assert current_snapshot(str(tmp_path)) == IDS[1]
    assert f"{first.folder} is published, but not current: {IDS[1]}" in caplog.text


def test_a_run_that_was_stopped_before_current_is_finished_by_a_retry(tmp_path: Path) -> None:
    writer = begun(tmp_path, IDS[0])
    commit(writer, "a")
    record = read_run(writer.folder)
    assert record is not None
    write_run(writer.folder, replace(record, state="running"))
    (tmp_path / "current").unlink()
    writer.commit([], [], {})
    assert current_snapshot(str(tmp_path)) == IDS[0]
    # One that is over does not undo a rollback.
    write_snapshot(tmp_path, ["b"], snapshot=IDS[1])
    (tmp_path / "current").write_text(IDS[0])
    begun(tmp_path, IDS[1]).commit([], [], {})
    assert current_snapshot(str(tmp_path)) == IDS[0]


def test_what_cannot_be_read_is_neither_current_nor_pruned(tmp_path: Path) -> None:
    for snapshot in IDS:
        write_snapshot(tmp_path, ["a"], snapshot=snapshot)
    folders = [tmp_path / "snapshots" / snapshot for snapshot in IDS]
    (folders[0] / "manifest.json").write_bytes(b"[1, 2]")
    fields = json.loads((folders[1] / "manifest.json").read_text())
    (folders[1] / "manifest.json").write_text(json.dumps({**fields, "sequence": "many"}))
    (folders[2] / RUN).write_text('{"format": "featureid-run", "changes": [], "counts": [[]]}')
    (tmp_path / "current").unlink()
    assert read_current(str(tmp_path)).snapshot == IDS[4]
    assert prune(str(tmp_path), 1, NOW, DAY) == IDS[2:4]
    assert verify_snapshot(str(tmp_path)).ok


def test_a_snapshot_that_was_made_in_the_future_has_no_age(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = make_writer(tmp_path, replace(make_info(), created="2099-01-01T00:00:00Z"))
    writer.begin()
    commit(writer, "a")
    line = run_here(capsys, "inspect", tmp_path, "--max-age", "999999d", status=1)
    assert "2099-01-01T00:00:00Z" in line and "in the future" in line and "clock" in line


def test_snapshots_and_numbers_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for snapshot in (IDS[3], IDS[1]):
        write_snapshot(tmp_path, ["a"], snapshot=snapshot)
    begun(tmp_path, IDS[0])
    assert cli.main(["snapshots", str(tmp_path), "--json", "--dead-after=999999d"]) == 0
    found = json.loads(capsys.readouterr().out)["snapshots"]
    assert [(entry["snapshot"], entry["state"], entry.get("sequence")) for entry in found] == [
        (IDS[3], "complete", 1),
        (IDS[1], "current", 2),
        (IDS[0], "running", None),
    ]


def test_a_manifest_that_cannot_be_read_stops_a_publication(tmp_path: Path) -> None:
    """Its number is not known, so that no higher one can be chosen."""
    write_snapshot(tmp_path, ["a"], snapshot=IDS[0])
    writer = begun(tmp_path, IDS[1])
    broken = tmp_path / "snapshots" / IDS[2]
    (broken / "manifest.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Cannot read .*manifest\.json"):
        commit(writer, "b")
    assert not Path(writer.folder, "manifest.json").exists()


def test_prune_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    output, other = tmp_path / "out", tmp_path / "other"
    write_snapshot(other, ["a"], snapshot=IDS[0])
    for snapshot in IDS[1:4]:
        write_snapshot(output, ["a"], snapshot=snapshot)
    theirs = other / "snapshots" / IDS[0]
    (output / "snapshots" / IDS[0]).symlink_to(theirs)
    (output / "snapshots" / IDS[1] / "link").symlink_to(theirs)
    assert prune(str(output), 1, NOW, DAY) == IDS[1:3]
    assert verify_snapshot(other).ok and (output / "snapshots" / IDS[0]).is_symlink()


def test_names_and_json_of_any_kind_make_no_command_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_snapshot(tmp_path, ["a"], snapshot=IDS[0])
    folder = tmp_path / "snapshots"
    for name in ("99999999T999999Z-ffffff", "00010101T000000Z-000000", "x" * 255, "\udcff", "\n"):
        (folder / name).mkdir()
    (folder / "99991231T235959Z-ffffff").touch()
    record = json.loads((folder / IDS[0] / RUN).read_text())
    odd: list[object] = [[], None, "x", 10**400, {"a": [1]}]
    commands = [
        ["snapshots", tmp_path, "--json"],
        ["snapshots", tmp_path],
        ["prune", tmp_path, "--keep=1", "--dry-run"],
        ["inspect", tmp_path],
    ]
    for name, value in itertools.product(record, odd):
        (folder / IDS[0] / RUN).write_text(json.dumps({**record, name: value}))
        for command in commands[:1] if value else commands[:3]:
            assert cli.main([str(word) for word in command]) == 0, (name, value)
    fields = json.loads((folder / IDS[0] / "manifest.json").read_text())
    for name, value in itertools.product(fields, odd):
        changed = {**fields, name: value}
        changed["digest"] = digest_of(changed)
        (folder / IDS[0] / "manifest.json").write_text(json.dumps(changed))
        for command in commands:
            assert cli.main([str(word) for word in command]) in (0, 1), (name, value)
    assert "Traceback" not in capsys.readouterr().err
