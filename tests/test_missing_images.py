"""Images that are gone: when a run goes on without them, and when it stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from featureid.storage.verify import verify_snapshot
from tests.commands import PORTABLE, run_here, run_process
from tests.test_replacing import files_in

FOLDERS = ("cats", "dogs/2025", "dogs/2026")


class Album:
    """Folders of images, and the output that they are embedded into every night."""

    def __init__(self, photos: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.output = place / "album", place / "ids"
        self._capsys = capsys
        for name in FOLDERS:
            shutil.copytree(photos / "small", self.folder / name)

    def arguments(self, *options: object) -> list[object]:
        """A command line that embeds the images."""
        places = (self.folder, "--output", self.output, "--strip-prefix", self.folder)
        return ["embed", *places, *options, "--json"]

    def night(self, *options: object, status: int = 0) -> Any:
        """Embed; return the summary, or the message of a run that fails."""
        printed = run_here(self._capsys, *self.arguments(*options), status=status)
        return printed if status else json.loads(printed)


@pytest.fixture
def album(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Album:
    """Three folders of six images each, embedded once."""
    found = Album(photos, tmp_path, capsys)
    assert found.night()["embedded"] == 18
    return found


def unmount(folder: Path) -> None:
    """Leave the mount point, as an unmounted disk does."""
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("runner", [(), PORTABLE], ids=["local", "portable"])
def test_a_disk_that_is_not_mounted_deletes_nothing(runner: tuple[str, ...], album: Album) -> None:
    before = files_in(album.output)
    unmount(album.folder / "dogs")
    message = run_process(*album.arguments(*runner), status=1)
    assert (
        "12 of the 18 images of the previous snapshot are missing: all 12 in 'dogs'; at most 5 may "
        "be missing and no folder may lose all of its images. Nothing is published. "
    ) in message
    assert message.endswith("add --max-deleted=12 and --allow-empty-folders")
    after = files_in(album.output)
    assert after["current"] == before["current"] and before.items() <= after.items()
    if runner:
        return
    assert after == before
    assert album.night("--max-deleted=12", status=1).endswith("add --allow-empty-folders")
    assert album.night("--allow-empty-folders", status=1).endswith("add --max-deleted=12")
    found = album.night("--max-deleted=70%", "--allow-empty-folders")
    assert (found["images"], found["changes"]["deleted"]) == (6, 12)
    assert verify_snapshot(album.output).ok


def test_a_folder_that_is_gone_stops_a_run_however_few_its_images(album: Album) -> None:
    for image in list((album.folder / "cats").iterdir())[2:]:
        image.unlink()
    assert album.night()["changes"]["deleted"] == 4  # By hand, in a folder that keeps some.
    shutil.rmtree(album.folder / "cats")
    message = album.night(status=1)
    assert "2 of the 14 images of the previous snapshot are missing: all 2 in 'cats'; no" in message
    assert album.night("--allow-empty-folders")["changes"]["deleted"] == 2


def test_a_folder_whose_images_are_others_now_is_not_empty(album: Album) -> None:
    for number, image in enumerate((album.folder / "cats").iterdir()):
        if number < 5:
            image.rename(image.with_name(f"new-{image.name}"))
    assert album.night()["changes"] == {
        **dict.fromkeys(("changed", "retried"), 0),
        **{"new": 5, "unchanged": 13, "deleted": 5},
    }


def test_images_of_a_manifest_that_are_gone_count_as_missing(
    album: Album, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest goes on listing what is on the disk that is not mounted."""
    manifest = tmp_path / "list.txt"
    images = sorted(path for path in album.folder.rglob("*.jpg"))
    manifest.write_text("".join(f"{image}\n" for image in images))
    embed = ("embed", "--manifest", manifest, "--output", tmp_path / "listed")
    run_here(capsys, *embed)
    before = files_in(tmp_path / "listed")
    unmount(album.folder / "dogs")
    message = run_here(capsys, *embed, status=1)
    assert (
        f"12 of the 18 images of the previous snapshot are missing: all 12 in '{album.folder}/"
        in (message)
    )
    assert files_in(tmp_path / "listed") == before
    allowed = ("--max-deleted=12", "--allow-empty-folders", "--json")
    found = json.loads(run_here(capsys, *embed, *allowed))
    assert found["failures_by_reason"] == {"not-found": 12} and found["embedded"] == 6
    assert not json.loads(run_here(capsys, *embed, "--json"))["published"]


def test_a_new_model_on_an_unmounted_disk_is_stopped_as_well(album: Album) -> None:
    unmount(album.folder / "cats")
    assert "all 6 in 'cats'" in album.night("--re-embed", status=1)
    assert "all 6 in 'cats'" in album.night("--check=content", status=1)
