"""Files: local and remote places, atomic writing, errors that say what is wrong."""

from __future__ import annotations

import errno
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featureid.errors import ImageError, StorageError, UsageError
from featureid.inputs import read_image
from featureid.storage import files


@pytest.fixture(params=["local", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "local": str(tmp_path),
        "file": f"file://{tmp_path}",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param]


def test_what_is_written_is_read(place: str) -> None:
    folder = files.join(place, "a", "b")
    uri = files.join(folder, "x.bin")
    files.make_folder(folder)
    assert not files.exists(uri)
    assert files.write_atomic(uri, iter([b"0123", b"", b"456789"])) == 10
    assert files.exists(uri)
    assert files.size(uri) == 10
    assert files.read_bytes(uri) == b"0123456789"
    with files.RangeReader(uri) as file:
        assert file.read(3, 4) == b"3456"
    assert files.list_folder(folder) == ["x.bin"]
    files.write_atomic(uri, [b"new"])
    assert files.read_bytes(uri, 3) == b"new"


def test_too_much_or_too_little_is_an_error(place: str) -> None:
    files.make_folder(place)
    uri = files.join(place, "x.bin")
    files.write_atomic(uri, [b"0123456789"])
    with pytest.raises(StorageError, match="10 bytes; at most 9"):
        files.read_bytes(uri, 9)
    with files.RangeReader(uri) as file, pytest.raises(StorageError, match="ended at byte 10"):
        file.read(8, 5)


def test_a_missing_file_is_named(place: str) -> None:
    uri = files.join(place, "nowhere.bin")
    with pytest.raises(StorageError, match=r"Cannot read .*nowhere\.bin"):
        files.read_bytes(uri)


def test_a_producer_that_fails_leaves_nothing(place: str) -> None:
    files.make_folder(place)
    uri = files.join(place, "x.bin")
    files.write_atomic(uri, [b"old"])

    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        files.write_atomic(uri, chunks())
    assert files.read_bytes(uri) == b"old"
    assert files.list_folder(place) == ["x.bin"]


def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"x\.bin: No space left on device; free some space"):
        files.write_atomic(str(tmp_path / "x.bin"), [b"data"])
    assert os.listdir(tmp_path) == []


def test_refused_writing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied; check the permissions"):
        files.write_atomic(str(tmp_path / "x.bin"), [b"data"])


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below = str(tmp_path / "file" / "x.bin")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        files.write_atomic(below, [b"data"])
    with pytest.raises(StorageError, match="a part of the path is a file"):
        files.make_folder(below)
    with pytest.raises(StorageError, match="a part of the path is a file"):
        files.exists(below)
    with pytest.raises(StorageError, match="Cannot list"):
        files.list_folder(str(tmp_path / "file"))


def test_an_unknown_scheme_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="use a local path, s3:// or gs://"):
        files.read_bytes("nosuch://bucket/x")


@pytest.mark.parametrize(("uri", "extra"), [("s3://b/x", "aws"), ("gs://b/x", "gcp")])
def test_a_missing_package_names_the_extra(
    uri: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=rf"install featureid\[{extra}\]"):
        files.read_bytes(uri)


def test_an_error_of_a_store_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(*_args: object, **_more: object) -> None:
        raise RuntimeError("Unable to locate credentials")

    store = fsspec.filesystem("memory")
    monkeypatch.setattr(type(store), "pipe_file", refuse)
    with pytest.raises(StorageError, match=r"Unable to locate credentials; .*your credentials"):
        files.write_atomic("memory://bucket/x", [b""])


def test_an_absolute_place_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.absolute("out/a") == str(tmp_path / "out" / "a")
    for place in ("/out", "s3://bucket/out"):
        assert files.absolute(place) == place
    assert files.absolute("file:///out") == "/out"


def test_a_folder_is_removed_although_a_file_in_it_vanishes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    unlink, calls = os.unlink, iter(range(99))

    def vanish(path: str, **options: Any) -> None:
        unlink(path, **options)
        if next(calls) == 0:
            for other in folder.iterdir():
                unlink(other)
                break

    monkeypatch.setattr(os, "unlink", vanish)
    files.remove_folder(str(folder))
    assert not folder.exists()
    files.remove_folder(str(folder))


def test_what_is_not_a_file_is_never_replaced(tmp_path: Path) -> None:
    """A rename would replace even a device, such as /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for place in (pipe, link):
        with pytest.raises(StorageError, match="exists; the path is a device, pipe or socket"):
            files.write_atomic(str(place), [b"data"])
    assert pipe.is_fifo() and link.is_symlink()
    with pytest.raises(StorageError, match="the path is a folder"):
        files.write_atomic(str(tmp_path), [b"data"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link", tmp_path / "disk" / "target"
    link.symlink_to("disk/target")
    for content in (b"new", b"newer"):  # It leads nowhere at first.
        files.write_atomic(str(link), [content])
        assert link.is_symlink() and target.read_bytes() == content
    assert list((tmp_path / "disk").iterdir()) == [target]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="has a character that no path can have"):
        files.read_bytes(str(tmp_path / name))
    with pytest.raises(ImageError, match="no such file"):
        read_image(str(tmp_path / name), 1000)


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    """Opening a pipe would block until somebody writes into it."""
    os.mkfifo(tmp_path / "pipe")
    for place in (str(tmp_path / "pipe"), "/dev/zero"):
        for read in (files.read_bytes, files.map_bytes, files.size):
            with pytest.raises(StorageError, match="device, pipe or socket, not a file"):
                read(place)


def test_a_file_is_read_whole_however_little_the_system_returns_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux returns at most 2 GiB."""
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: real(file, min(size, 3), at))
    (tmp_path / "x").write_bytes(b"0123456789")
    assert files.read_bytes(str(tmp_path / "x")) == b"0123456789"
    with files.RangeReader(str(tmp_path / "x")) as file:
        assert file.read(4, 6) == b"456789"
        with pytest.raises(StorageError, match="ended at byte 10 when 9 bytes from 4"):
            file.read(4, 9)


def test_new_folders_are_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    files.make_folder(str(tmp_path / "a" / "b"))
    assert {tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino} == set(synced)
    files.make_folder(str(tmp_path / "a" / "b"))
    assert len(synced) == 2
