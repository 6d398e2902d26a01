"""A snapshot leads to its images: embedded through the command, read by key, moved, read again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import featureid
from featureid.cli import main as cli
from featureid.errors import UsageError
from featureid.inputs import read_image
from featureid.storage.reader import Snapshot


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images of which names and folders are of every kind."""
    small = sorted((photos / "small").iterdir())
    names = (b"photos/a.jpg", b"photos/other/caf\xe9.jpg", rb"photos/caf\xe9.jpg", b"other/b.jpg")
    for source, name in zip(small, names, strict=False):
        place = tmp_path / "here" / os.fsdecode(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    (tmp_path / "here" / "photos" / "empty.jpg").touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def embed(*argv: object) -> Snapshot:
    """Run the command and open what it has made, from another folder."""
    assert cli.main(["embed", *map(str, argv), "--output=out"]) == 0
    return featureid.open_snapshot(Path("out").resolve())


def check(snapshot: Snapshot, root: Path | None = None) -> set[str]:
    """Read every image by its key and return the keys."""
    digests = np.asarray(snapshot.column("sha256"))
    for key, digest in zip(snapshot, digests, strict=True):
        data = read_image(snapshot.uri(key, root), 1 << 20)
        assert hashlib.sha256(data).digest() == digest.tobytes()
    for failure in snapshot.failures():
        assert read_image(snapshot.uri(failure.key, root), 1 << 20) == b""
    return set(snapshot)


def test_images_are_read_by_key_from_anywhere(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = embed("photos", "other/*.jpg", "--strip-prefix=photos")
    monkeypatch.chdir(tmp_path)
    keys = check(snapshot)
    other = f"{here}/other/b.jpg"
    assert keys == {"a.jpg", r"other/caf\xe9.jpg", r"caf\x5cxe9.jpg", other}
    assert snapshot.manifest.info.locations.root == str(here / "photos")


def test_a_moved_collection_is_read_with_its_new_root(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absolute = embed(here / "photos")
    assert set(embed("photos")) == set(absolute)
    relative = embed("photos", "--strip-prefix=.", "--no-previous")
    capsys.readouterr()
    assert cli.main(["inspect", "out"]) == 0
    assert f"\nroot          {here}\n" in capsys.readouterr().out
    assert cli.main(["inspect", absolute.folder, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["locations"] == {"root": f"{here}/photos"}
    monkeypatch.chdir(tmp_path)
    (here / "photos").rename(tmp_path / "photos")
    check(absolute, tmp_path / "photos")
    check(relative, tmp_path)
    with pytest.raises(featureid.errors.ImageError, match="no such file"):
        check(relative)


def test_rows_carried_from_a_moved_collection_lead_to_where_it_is_now(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(here / "photos", "--strip-prefix", here / "photos")
    moved = (here / "photos").rename(tmp_path / "moved")
    capsys.readouterr()
    again = embed(moved, "--strip-prefix", moved, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert summary["published"] and summary["changes"]["unchanged"] == summary["images"]
    check(again)
    once_more = embed(moved, "--strip-prefix", f"{moved}/", "--json")
    assert not json.loads(capsys.readouterr().out)["published"]
    assert once_more.folder == again.folder


def test_manifests_with_paths_of_every_kind(here: Path, tmp_path: Path) -> None:
    lines = ["photos/a.jpg", "./other/b.jpg", f"{here}/photos/caf\\xe9.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    snapshot = embed("--manifest", tmp_path / "list.txt")
    assert len(check(snapshot)) == 3
    assert check(embed("--manifest", f"file://{tmp_path}/list.txt", f"file://{here}/photos"))


def test_imported_vectors_need_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.eye(4, dtype=np.float32))
    Path("keys.txt").write_text("a.jpg\n/data/b.jpg\ns3://bucket/c.jpg\nd.jpg\n")
    argv = ["import", "x.npy", "--keys=keys.txt", "--model=theirs", "--output=out"]
    assert cli.main(argv) == 0
    snapshot = featureid.open_snapshot("out")
    assert snapshot.uri("s3://bucket/c.jpg") == "s3://bucket/c.jpg"
    with pytest.raises(UsageError, match=r"does not record where 'a\.jpg' starts; give a root"):
        snapshot.uri("a.jpg")
    assert snapshot.uri("a.jpg", "/mnt/photos") == "/mnt/photos/a.jpg"
