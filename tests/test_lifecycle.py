"""A run becomes visible all at once or not at all, and pruning never takes what is in use."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.errors import FeatureIdError, StorageError, UsageError
from featureid.storage import files
from featureid.storage.lifecycle import SnapshotWriter, prune
from featureid.storage.process import this_process
from featureid.storage.reader import open_snapshot
from featureid.storage.records import Failure
from featureid.storage.run_record import read_run
from featureid.storage.snapshot import checked_at, current_snapshot, find_snapshot, snapshot_folder
from featureid.storage.verify import verify_snapshot
from tests.processes import ended_process, stop, waiting_process
from tests.storage_samples import (
    FAILURES,
    ID,
    make_info,
    make_row,
    make_writer,
    write_shards,
    write_snapshot,
)

OLDER, NEWER = "20261122T010203Z-ffffff", "20261124T010203Z-000000"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)
IDS = [f"2026112{n}T000000Z-00000{n}" for n in range(5)]
RUNNING = "20261129T230000Z-aaaaaa"


def begin(output: Path, snapshot: str, previous: str = "", process: str = "") -> SnapshotWriter:
    writer = make_writer(output, make_info(1, snapshot=snapshot), previous, process)
    writer.begin()
    return writer


def commit(writer: SnapshotWriter, keys: list[str], failures: tuple[Failure, ...] = ()) -> None:
    shards = write_shards(writer, [make_row(key) for key in keys])
    writer.commit(shards, failures, {})


def folders(output: Path) -> list[str]:
    return sorted(folder.name for folder in (output / "snapshots").iterdir())


def test_a_run_is_marked_until_it_has_committed(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a"], snapshot=OLDER)
    writer = pickle.loads(pickle.dumps(make_writer(tmp_path, make_info(2), OLDER)))
    writer.begin()
    mark = read_run(writer.folder)
    assert mark is not None and mark == writer.record
    assert mark.state == "running" and mark.previous == OLDER
    shards = write_shards(writer, [make_row(key) for key in "abc"])
    manifest = writer.commit(shards, FAILURES, {"new": 2, "unchanged": 1})
    record = read_run(writer.folder)
    assert record is not None and record.state == "committed"
    assert record.changes == {"new": 2, "unchanged": 1}
    assert record.counts == {"images": 5, "embedded": 3, "failed": 2, "kept": 0, "rows": 3}
    assert record.failures_by_reason == manifest.counts.failures_by_reason
    assert find_snapshot(str(tmp_path)) == writer.folder and verify_snapshot(str(tmp_path)).ok


def test_failures_are_sorted_gzipped_lines(tmp_path: Path) -> None:
    manifest = write_snapshot(tmp_path, ["a"], failures=FAILURES)
    (summary,) = manifest.failures
    path = tmp_path / "snapshots" / ID / "failures-00000-of-00001.jsonl.gz"
    assert (summary.file, summary.rows) == (path.name, 2)
    subprocess.run(["gzip", "-t", path], check=True)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert [Failure.from_json(line) for line in lines] == sorted(FAILURES)
    again = write_snapshot(tmp_path / "again", ["a"], failures=FAILURES[::-1])
    assert again.failures == manifest.failures


def test_no_failures_make_an_empty_gzip_file(tmp_path: Path) -> None:
    (summary,) = write_snapshot(tmp_path, ["a"], failures=()).failures
    path = tmp_path / "snapshots" / ID / summary.file
    assert summary.rows == 0 and gzip.decompress(path.read_bytes()) == b""


def test_what_is_not_committed_is_not_seen(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a", "b"], snapshot=OLDER)
    writer = begin(tmp_path, ID)
    shards = write_shards(writer, [make_row("c")])
    assert find_snapshot(str(tmp_path)).endswith(OLDER)
    with pytest.raises(StorageError, match="holds no complete snapshot"):
        open_snapshot(writer.folder)
    writer.commit(shards, [], {})
    assert open_snapshot(str(tmp_path)).row_keys() == ["c"]


def test_every_step_may_be_retried(tmp_path: Path) -> None:
    writer = begin(tmp_path, ID)
    writer.begin()
    shards = write_shards(writer, [make_row("c")])
    first = writer.commit(shards, FAILURES, {"new": 3})
    record = read_run(writer.folder)
    assert writer.commit(shards, FAILURES, {"new": 3}) == first
    for retry in (writer.begin, writer.abort, writer.discard):
        retry()
        assert read_run(writer.folder) == record and verify_snapshot(str(tmp_path)).ok


@pytest.mark.parametrize("survivors", range(4))
def test_a_commit_that_fails_at_any_write_leaves_a_whole_snapshot_and_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    write_snapshot(tmp_path, ["a"], snapshot=OLDER)
    writer = begin(tmp_path, ID)
    shards = write_shards(writer, [make_row("c")])
    real, calls = files.write_atomic, iter(range(99))

    def fail(uri: str, chunks: list[bytes]) -> int:
        if next(calls) >= survivors:
            raise StorageError("disk full")
        return real(uri, chunks)

    monkeypatch.setattr(files, "write_atomic", fail)
    with pytest.raises(StorageError, match="disk full"):
        writer.commit(shards, [], {})
    assert open_snapshot(str(tmp_path)).row_keys() == ["a"]
    monkeypatch.undo()
    writer.commit(shards, [], {})
    assert open_snapshot(str(tmp_path)).row_keys() == ["c"] and verify_snapshot(str(tmp_path)).ok


def test_nothing_is_published_when_a_file_is_missing_or_short(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, make_info(2))
    writer.begin()
    shards = write_shards(writer, [make_row(key) for key in "abc"])
    victim = Path(writer.folder, shards[1].file)
    data = victim.read_bytes()
    victim.write_bytes(data[:-1])
    with pytest.raises(StorageError, match=f"{len(data) - 1} bytes, but {len(data)} were written"):
        writer.commit(shards, [], {})
    victim.unlink()
    with pytest.raises(StorageError, match=victim.name):
        writer.commit(shards, [], {})
    assert current_snapshot(str(tmp_path)) is None


def test_nothing_is_published_by_a_run_that_has_lost_its_mark(tmp_path: Path) -> None:
    writer = begin(tmp_path, ID)
    writer.check_marked()
    writer.abort()
    with pytest.raises(StorageError, match=r"lost its run.json: .*Nothing is published"):
        writer.check_marked()
    Path(writer.folder).mkdir()
    shards = write_shards(writer, [make_row("a")])
    with pytest.raises(StorageError, match=r"lost its run.json"):
        writer.commit(shards, [], {})
    assert current_snapshot(str(tmp_path)) is None


@pytest.mark.parametrize("there", [OLDER, NEWER])
def test_many_images_are_not_replaced_by_few(tmp_path: Path, there: str) -> None:
    write_snapshot(tmp_path, [f"{n}" for n in range(9)], failures=(), snapshot=there)
    writer = begin(tmp_path, ID)
    with pytest.raises(FeatureIdError, match="8 fewer"):
        commit(writer, ["a"])
    assert current_snapshot(str(tmp_path)) == there


def test_a_discarded_run_leaves_the_time_of_the_last_check(tmp_path: Path) -> None:
    for snapshot in (OLDER, NEWER):
        write_snapshot(tmp_path, ["a"], snapshot=snapshot)
    late = replace(make_info(snapshot=RUNNING), created="2026-11-29T23:00:00Z")
    early = replace(late, created="2026-11-29T22:00:00Z")
    for info, previous in ((late, NEWER), (early, NEWER), (late, OLDER)):
        writer = make_writer(tmp_path, info, previous)
        writer.begin()
        writer.discard()
        assert folders(tmp_path) == [OLDER, NEWER]
        # What is found about a snapshot that is no longer current does not count.
        last = late if info is late and previous == NEWER else early
        assert checked_at(str(tmp_path), NEWER) == last.created


def test_an_output_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    output = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(UsageError, match=r"caf\\udce9', a name that is not UTF-8"):
        write_snapshot(output, ["a"])
    assert list(tmp_path.iterdir()) == []
    write_snapshot(tmp_path / "café", ["a"])


def test_a_failed_run_is_aborted(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, make_info(1))
    with pytest.raises(KeyboardInterrupt), writer.running():
        write_shards(writer, [make_row("a")])
        raise KeyboardInterrupt
    assert folders(tmp_path) == []


def test_a_failed_run_leaves_no_output_that_was_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "used").mkdir()
    write_snapshot(tmp_path / "used", ["a"], snapshot=OLDER)
    for name in ("there", "used", "new"):
        writer = make_writer(tmp_path / name, make_info(1))
        with pytest.raises(KeyboardInterrupt), writer.running():
            raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir()} == {"there", "used"}
    assert folders(tmp_path / "used") == [OLDER]


def test_what_is_complete_is_never_aborted(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, make_info(1))
    with pytest.raises(KeyboardInterrupt), writer.running():
        commit(writer, ["a"])
        raise KeyboardInterrupt
    assert verify_snapshot(str(tmp_path)).ok


def test_a_run_whose_previous_snapshot_is_gone_does_not_start(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, make_info(1), OLDER)
    with pytest.raises(StorageError, match=f"{OLDER} was removed just as"), writer.running():
        raise AssertionError("it has started")
    assert folders(tmp_path) == []


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for snapshot in IDS:
        write_snapshot(tmp_path, ["a", "b"], 1, snapshot=snapshot)
    return tmp_path


def test_the_newest_stay(output: Path) -> None:
    for _ in range(2):
        assert prune(str(output), 2, NOW, DAY, dry_run=True) == IDS[:3]
    assert folders(output) == IDS
    assert prune(str(output), 2, NOW, DAY) == IDS[:3]
    assert folders(output) == IDS[3:]
    assert prune(str(output), 2, NOW, DAY) == []
    with pytest.raises(StorageError, match="does not exist"):
        prune(str(output / "nothing"), 2, NOW, DAY)


@pytest.mark.parametrize(("keep", "pruned"), [(1, IDS[:2]), (4, IDS[:1]), (5, [])])
def test_the_current_snapshot_and_newer_ones_stay(
    output: Path, keep: int, pruned: list[str]
) -> None:
    (output / "current").write_text(IDS[2] + "\n")
    assert prune(str(output), keep, NOW, DAY) == pruned
    assert verify_snapshot(str(output)).ok
    with pytest.raises(UsageError, match="`keep` is 0"):
        prune(str(output), 0, NOW, DAY)


def test_the_current_snapshot_stays_even_if_it_is_damaged(output: Path) -> None:
    for damage in (b"{}", None):
        manifest = output / "snapshots" / IDS[4] / "manifest.json"
        manifest.unlink() if damage is None else manifest.write_bytes(damage)
        assert IDS[4] not in prune(str(output), 1, NOW, timedelta(0))


def test_what_a_run_carries_from_stays_until_the_run_is_over(output: Path) -> None:
    writer = begin(output, RUNNING, previous=IDS[1], process=this_process())
    assert prune(str(output), 1, NOW, DAY) == [IDS[0], IDS[2], IDS[3]]
    commit(writer, ["a"])
    assert prune(str(output), 1, NOW, DAY) == [IDS[1], IDS[4]]
    assert folders(output) == [RUNNING]


def test_a_snapshot_that_is_about_to_become_current_stays(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begin(output, RUNNING, process=this_process())
    real, pruned = files.write_atomic, []

    def prune_first(uri: str, chunks: list[bytes]) -> int:
        if uri.endswith("/current"):
            pruned.extend(prune(str(output), 1, NOW, DAY))
        return real(uri, chunks)

    monkeypatch.setattr(files, "write_atomic", prune_first)
    commit(writer, ["a"])
    assert pruned == IDS[:4] and folders(output) == [IDS[4], RUNNING]
    assert find_snapshot(str(output)) == writer.folder


def test_a_snapshot_that_is_published_while_it_is_listed_is_not_taken_for_dead(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run publishes, and its process ends, just after its manifest was looked for."""
    with waiting_process() as (process, identity):
        writer = begin(output, RUNNING, process=identity)
        real, looks = files.exists, iter(range(99))

        def publish_after(uri: str) -> bool:
            found = real(uri)
            if uri == f"{writer.folder}/manifest.json" and next(looks) == 0:
                commit(writer, ["a"])
                stop(process)
            return found

        monkeypatch.setattr(files, "exists", publish_after)
        assert RUNNING not in prune(str(output), 1, NOW, DAY)
    assert verify_snapshot(writer.folder).ok


def test_a_local_run_is_not_dead_however_long_it_takes(output: Path) -> None:
    begin(output, RUNNING, process=this_process())
    assert RUNNING not in prune(str(output), 5, NOW + 99 * DAY, DAY)


def test_a_run_whose_process_cannot_be_checked_is_dead_after_some_time(output: Path) -> None:
    begin(output, RUNNING, process="elsewhere 1 1")
    assert prune(str(output), 5, NOW, DAY) == []
    assert prune(str(output), 5, NOW + DAY, DAY) == [RUNNING]


def test_a_snapshot_that_is_pruned_while_it_is_looked_for_is_not_missed(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, looks = files.exists, iter(range(99))

    def publish_and_prune_first(uri: str) -> bool:
        if IDS[4] in uri and next(looks) == 0:
            commit(begin(output, RUNNING), ["a"])
            assert IDS[4] in prune(str(output), 1, NOW, DAY)
        return real(uri)

    monkeypatch.setattr(files, "exists", publish_and_prune_first)
    assert find_snapshot(str(output)).endswith(RUNNING)


def test_runs_in_an_object_store() -> None:
    place = f"memory://{uuid.uuid4().hex}/out"
    for snapshot in IDS:
        writer = make_writer(place, make_info(1, snapshot=snapshot))
        with writer.running():
            commit(writer, ["a", "b"])
    unchanged = make_writer(place, make_info(1, snapshot=RUNNING), IDS[4])
    unchanged.begin()
    assert prune(place, 2, NOW, DAY) == IDS[:3]
    unchanged.discard()
    failed = make_writer(place, make_info(1, snapshot=OLDER))
    with pytest.raises(KeyboardInterrupt), failed.running():
        raise KeyboardInterrupt
    make_writer(place, make_info(1, snapshot=OLDER), process=ended_process()).begin()
    assert prune(place, 1, NOW, DAY) == [IDS[3], OLDER]
    assert files.list_folder(f"{place}/snapshots") == [IDS[4]] and verify_snapshot(place).ok
    assert checked_at(place, IDS[4]) == unchanged.info.created


def test_a_run_whose_process_has_ended_is_dead_at_once(output: Path) -> None:
    begin(output, RUNNING, previous=IDS[0], process=ended_process())
    assert prune(str(output), 5, NOW, DAY) == [RUNNING]


def test_a_run_that_starts_meanwhile_gets_its_previous_snapshot_back(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = files.remove

    def remove_and_begin(place: str) -> None:
        remove(place)
        if not (output / "snapshots" / RUNNING).exists():
            with pytest.raises(StorageError, match="was removed just as"):
                begin(output, RUNNING, previous=IDS[0])

    monkeypatch.setattr(files, "remove", remove_and_begin)
    assert prune(str(output), 4, NOW, DAY) == []
    assert verify_snapshot(snapshot_folder(str(output), IDS[0])).ok


def test_what_a_killed_prune_has_left_goes_with_the_next(output: Path) -> None:
    (output / "snapshots" / IDS[3] / "manifest.json").unlink()
    assert prune(str(output), 5, NOW, DAY) == [IDS[3]]
