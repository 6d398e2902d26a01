"""Who can read what a run writes: with faces only its user, otherwise as the umask says."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from featureid.atomic import make_folders, replace_file
from featureid.storage.records import WHOLE_IMAGE, Face
from featureid.storage.snapshot import index_place
from tests.storage_samples import ID, make_info, make_row, write_rows


def write(output: Path, faces: bool) -> None:
    """Write and publish a snapshot."""
    face = Face(WHOLE_IMAGE, (0.0, 0.0, 640.0, 480.0)) if faces else None
    rows = [replace(make_row(key), face=face) for key in ("a", "b")]
    write_rows(output, make_info(2, faces="dlib all" if faces else ""), rows)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(output: Path) -> set[tuple[bool, int]]:
    """The modes of a folder and all below it, each with whether it is of a folder."""
    return {(path.is_dir(), mode(path)) for path in [output, *output.rglob("*")]}


@pytest.fixture(params=[0o022, 0o027, 0o002], ids=oct, autouse=True)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def test_faces_are_private_and_other_images_follow_the_umask(tmp_path: Path, umask: int) -> None:
    write(tmp_path / "faces", faces=True)
    assert modes(tmp_path / "faces") == {(True, 0o700), (False, 0o600)}
    write(tmp_path / "images", faces=False)
    assert modes(tmp_path / "images") == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


@pytest.mark.parametrize(
    ("given", "folder", "file"), [(0o755, 0o700, 0o600), (0o770, 0o770, 0o660)]
)
def test_in_a_folder_for_a_group_faces_are_for_that_group(
    given: int, folder: int, file: int, tmp_path: Path, umask: int
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    output.chmod(given)
    write(output, faces=True)
    assert mode(output) == given
    assert modes(output / "snapshots") == {(True, folder & ~umask), (False, file & ~umask)}
    index = Path(index_place(str(output / "snapshots" / ID)))
    replace_file(index, [b"codes"])
    assert mode(index) == file & ~umask


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path, umask: int) -> None:
    make_folders(str(tmp_path / "a" / "b"), private=True)
    make_folders(str(tmp_path / "a" / "b" / "c"))
    make_folders(str(tmp_path / "a"), private=True)
    assert [mode(path) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700, 0o700]
    assert mode(tmp_path / "a" / "b" / "c") == 0o777 & ~umask
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folders(str(tmp_path / "file"), private=True)
