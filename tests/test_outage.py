"""Images that cannot be read for a while: their rows stay, marked, and are tried again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import featureid
from featureid import inputs
from featureid.embedding import failure
from featureid.errors import ImageError
from featureid.inputs import ImageRef
from featureid.jobs.previous import keeps_rows
from featureid.refresh import RefreshPolicy
from featureid.storage.verify import verify_snapshot
from tests.nightly_samples import Nights, contents
from tests.storage_samples import write_snapshot

Fail = Callable[..., None]
UNREAD = ("astronaut", "camera")


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    """Six images that were embedded once."""
    found = Nights(photos, tmp_path, capsys)
    (found.pictures / "bad.jpg").unlink()
    found.run()
    return found


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Let every image fail to be read whose path has one of some words in it."""
    real = inputs._read_local

    def failing(*words: str, code: int = errno.EIO) -> None:
        def read(uri: str, size: int) -> bytes:
            if any(word in Path(uri).name for word in words):
                raise OSError(code, os.strerror(code))
            return real(uri, size)

        monkeypatch.setattr(inputs, "_read_local", read)

    return failing


def touch(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("--check=content", errno.EIO),
        ("--check=version", errno.EACCES),
        ("--re-embed", errno.ENOENT),
    ],
)
def test_an_outage_of_all_images_publishes_nothing(
    nights: Nights, fail: Fail, option: str, code: int
) -> None:
    before, rows = nights.current, contents(nights.output)
    touch(nights.pictures)
    fail(".jpg", code=code)
    error = nights.run(option, status=3)["error"]
    reason = "not-found" if code == errno.ENOENT else "unreadable"
    assert f"none of the 6 images could be embedded: 6 {reason}, such as 'astronaut.jpg'" in error
    assert nights.current == before and contents(nights.output) == rows
    assert len(list((nights.output / "snapshots").iterdir())) == 1


def test_the_rows_of_images_that_cannot_be_read_stay_and_are_tried_again(
    nights: Nights, fail: Fail
) -> None:
    rows, _ = contents(nights.output)
    touch(nights.pictures)
    fail(*UNREAD)
    summary = nights.run("--check=content")
    assert (summary["embedded"], summary["failed"], summary["kept"]) == (6, 0, 2)
    assert verify_snapshot(nights.output).ok
    kept, failures = contents(nights.output)
    assert [(found.key, found.has_rows) for found in failures] == [
        (f"{n}.jpg", True) for n in UNREAD
    ]
    for name in UNREAD:
        vector, sha256, size, version, width, height = kept[f"{name}.jpg"]
        assert version == b"" and (vector, sha256, size) == rows[f"{name}.jpg"][:3]
        assert (width, height) == rows[f"{name}.jpg"][4:]
    assert not nights.run()["published"]  # They were tried again, and nothing has changed.
    fail()
    summary = nights.run()
    assert (summary["kept"], summary["changes"]["changed"]) == (0, 2)
    assert contents(nights.output)[0].keys() == rows.keys()


def test_kept_rows_count_as_failures_for_the_rate(nights: Nights, fail: Fail) -> None:
    before = nights.current
    fail(*UNREAD)
    error = nights.run("--re-embed", "--max-failure-rate=0.3", "--publish-anyway", status=3)
    assert "2 of the 6 images failed, more than --max-failure-rate=0.3 allows" in error["error"]
    snapshot = featureid.open_snapshot(nights.output)
    assert nights.current != before and len(snapshot) == 6
    assert snapshot.manifest.counts.kept == 2


@pytest.mark.parametrize(
    ("changes", "kept"), [({}, True), ({"dtype": "float16"}, False), ({"digest": "00"}, False)]
)
def test_only_rows_of_the_same_kind_are_kept(
    tmp_path: Path, changes: dict[str, str], kept: bool
) -> None:
    write_snapshot(tmp_path, ["a"])
    previous = featureid.open_snapshot(tmp_path)
    model = replace(previous.model, **changes)  # type: ignore[arg-type]
    assert keeps_rows(previous, RefreshPolicy(re_embed=True), model) == kept
    assert not keeps_rows(None, RefreshPolicy(), model)


@pytest.mark.parametrize(
    ("stage", "reason", "version", "kept"),
    [
        ("read", "unreadable", "v", True),
        ("read", "unreadable", "", True),
        ("read", "not-found", "v", True),
        ("read", "not-found", "", False),  # Listing has not found it, either.
        ("read", "too-large", "v", False),
        ("decode", "truncated", "v", False),
    ],
)
def test_rows_stay_unless_the_content_is_at_fault(
    stage: str, reason: str, version: str, kept: bool
) -> None:
    error = ImageError(stage, reason, "x")
    assert failure(ImageRef("a", "/a", version, known=True), error).has_rows == kept
    assert not failure(ImageRef("a", "/a", version), error).has_rows
