"""The cache: concurrent processes, damaged files, and builds that fail."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pwd
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from featureid.errors import BundleError, ModelError
from featureid.models.cache import built_once, cache_folder
from featureid.models.folder import models_folder

_PROCESSES = 6


def _read(data: bytes) -> bytes:
    if not data.startswith(b"good"):
        raise BundleError("bad start")
    return data


def _must_not_build() -> bytes:
    raise RuntimeError("built although the file exists")


def _fail_to_build() -> bytes:
    raise ModelError("build failed")


def _read_in_process(folder: str, barrier: Barrier) -> None:
    """Read the file at the same time as the others; note if this process builds it."""
    path = Path(folder) / "deep" / "file"

    def build() -> bytes:
        with open(Path(folder) / "builders", "ab") as notes:
            notes.write(b"%d\n" % os.getpid())
        return b"good" * 1_000_000

    barrier.wait()
    assert built_once(path, build, _read) == b"good" * 1_000_000


def test_only_one_of_several_processes_builds_the_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(_PROCESSES)
    processes = [
        context.Process(target=_read_in_process, args=(str(tmp_path), barrier))
        for _ in range(_PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * _PROCESSES
    assert len((tmp_path / "builders").read_bytes().splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["file", "file.lock"]


def test_an_existing_file_is_not_built_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"good old")
    assert built_once(path, _must_not_build, _read) == b"good old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_built_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)  # what others may read of a folder, they may read of a file in it
    path = tmp_path / "file"
    path.write_bytes(b"bad")
    with caplog.at_level(logging.WARNING):
        assert built_once(path, lambda: b"good new", _read) == b"good new"
    assert path.read_bytes() == b"good new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert f"{path} cannot be used and will be built again: bad start" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("build", [_fail_to_build, lambda: b"bad"])
def test_a_failed_build_leaves_no_file(tmp_path: Path, build: Callable[[], bytes]) -> None:
    with pytest.raises(ModelError, match=r"build failed|bad start"):
        built_once(tmp_path / "file", build, _read)
    assert [path.name for path in tmp_path.iterdir()] == ["file.lock"]


def test_an_unwritable_folder_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"a file, not a folder")
    with pytest.raises(ModelError, match=r"taken/file: .* set FEATUREID_CACHE"):
        built_once(tmp_path / "taken" / "file", lambda: b"good", _read)


def test_a_full_disk_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="No space left on device"):
        built_once(tmp_path / "file", lambda: b"good", _read)
    assert [path.name for path in tmp_path.iterdir()] == ["file.lock"]


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "FEATUREID_CACHE", "FEATUREID_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for folder, variable in ((cache_folder, "CACHE"), (models_folder, "MODELS")):
        with pytest.raises(
            ModelError, match=f"no home folder, .*; set FEATUREID_{variable} to a f"
        ):
            folder()
        monkeypatch.setenv(f"FEATUREID_{variable}", "/own")
        assert folder() == Path("/own")


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("FEATUREID_CACHE", "~/own")
    assert cache_folder() == Path("/home/someone/own")
    monkeypatch.delenv("FEATUREID_CACHE")
    assert cache_folder() == Path("/cache/featureid")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/someone/.cache/featureid")
