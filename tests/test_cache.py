"""A file that is made once: by several processes, after damage, and when it cannot be made."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

import pytest

from featureid.errors import BundleError, ModelError
from featureid.models.cache import cache_folder, made_once

_PROCESSES = 6


def _read(data: bytes) -> bytes:
    if not data.startswith(b"good"):
        raise BundleError("it does not start well")
    return data


def _refuse_to_make() -> bytes:
    raise RuntimeError("made although it was there")


def _fail_to_make() -> bytes:
    raise ModelError("cannot be made")


def _make_in_process(folder: str, barrier: object) -> None:
    """Need the file together with the others; leave a note if it is this one that makes it."""
    path = Path(folder) / "deep" / "file"

    def make() -> bytes:
        with open(Path(folder) / "makers", "ab") as notes:
            notes.write(b"%d\n" % os.getpid())
        return b"good" * 1_000_000

    barrier.wait()  # type: ignore[attr-defined]
    assert made_once(path, make, _read) == b"good" * 1_000_000


def test_of_several_processes_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(_PROCESSES)
    processes = [
        context.Process(target=_make_in_process, args=(str(tmp_path), barrier))
        for _ in range(_PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * _PROCESSES
    assert len((tmp_path / "makers").read_bytes().splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["file", "file.lock"]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"good old")
    assert made_once(path, _refuse_to_make, _read) == b"good old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_made_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bad")
    with caplog.at_level(logging.WARNING):
        assert made_once(path, lambda: b"good new", _read) == b"good new"
    assert path.read_bytes() == b"good new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert f"{path} cannot be used and will be made again: it does not start" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("make", [_fail_to_make, lambda: b"bad"])
def test_nothing_is_left_when_it_cannot_be_made(tmp_path: Path, make: object) -> None:
    with pytest.raises(ModelError, match=r"cannot be made|does not start well"):
        made_once(tmp_path / "file", make, _read)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["file.lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file, not a folder")
    with pytest.raises(ModelError, match=r"taken/file: .* set FEATUREID_CACHE"):
        made_once(tmp_path / "taken" / "file", lambda: b"good", _read)


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left on device"):
        made_once(tmp_path / "file", lambda: b"good", _read)
    assert [path.name for path in tmp_path.iterdir()] == ["file.lock"]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("FEATUREID_CACHE", "~/own")
    assert cache_folder() == Path("/home/someone/own")
    monkeypatch.delenv("FEATUREID_CACHE")
    assert cache_folder() == Path("/cache/featureid")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/someone/.cache/featureid")
