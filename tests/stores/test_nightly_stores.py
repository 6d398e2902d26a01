"""Night after night with pictures and snapshots in object stores."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import featureid
from featureid.cli import main as cli
from featureid.storage import files
from featureid.storage.snapshot import current_snapshot
from featureid.storage.verify import verify_snapshot
from tests.imports import ImportSamples
from tests.run_points import actors
from tests.run_points import featureid as featureid_process
from tests.stores.servers import BUCKET, S3, embed

SCHEMES = ("s3", "gs")
VERSIONS = {"s3": "etag:", "gs": "generation:"}


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> Iterator[str]:
    """One store after the other, each with six photos below ``photos/in``."""
    request.getfixturevalue(request.param)
    yield request.param


def write(scheme: str, name: str, data: bytes) -> None:
    """Write an object as another program does."""
    store = fsspec.filesystem(scheme)
    store.pipe_file(f"{BUCKET}/{name}", data)
    store.invalidate_cache()


def changes(**numbers: int) -> dict[str, int]:
    return dict.fromkeys(("new", "changed", "retried", "unchanged", "deleted"), 0) | numbers


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    """A command that prints JSON."""
    capsys.readouterr()
    assert cli.main([*argv, "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def rows(output: str) -> dict[str, bytes]:
    snapshot = featureid.open_snapshot(output)
    return {key: vector.tobytes() for key, vector in snapshot.items()}


def test_nights_in_a_store(scheme: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = f"{scheme}://{BUCKET}/in", f"{scheme}://{BUCKET}/out"
    night = (source, "--output", output)
    small = photos / "small"
    assert embed(capsys, *night)["embedded"] == 6
    first = featureid.open_snapshot(output)

    nothing = embed(capsys, *night)
    assert (nothing["published"], nothing["changes"]) == (False, changes(unchanged=6))
    inspected = run(capsys, "inspect", output, "--max-age=1h")
    assert inspected["snapshot"] == first.manifest.info.snapshot and inspected["checked"]
    states = [entry["state"] for entry in run(capsys, "snapshots", output)["snapshots"]]
    assert states == ["current"]

    write(scheme, "in/added.jpg", (small / "rocket.jpg").read_bytes())
    write(scheme, "in/bad.jpg", b"no picture")
    write(scheme, "in/camera.jpg", (small / "coffee.jpg").read_bytes())
    store = fsspec.filesystem(scheme)
    store.rm_file(f"{BUCKET}/in/chelsea.jpg")
    second = embed(capsys, *night)
    assert second["changes"] == changes(new=2, changed=1, unchanged=4, deleted=1)
    assert second["failures_by_reason"] == {"not-an-image": 1}
    assert verify_snapshot(output).ok
    assert embed(capsys, source, "--output", output + "2")["embedded"] == 6
    assert rows(output) == rows(output + "2")

    found = run(capsys, "diff", first.folder, output)
    assert (found["added"], found["removed"], found["changed"]) == (1, 1, 1)
    assert len(run(capsys, "prune", output, "--keep=1")["pruned"]) == 1
    entries = run(capsys, "snapshots", output)["snapshots"]
    assert [entry["snapshot"] for entry in entries] == [second["snapshot"]]
    assert verify_snapshot(output).ok


def test_content_in_a_store(scheme: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = (f"{scheme}://{BUCKET}/in", "--output", f"{scheme}://{BUCKET}/out")
    embed(capsys, *night)
    write(scheme, "in/camera.jpg", (photos / "small" / "coffee.jpg").read_bytes())
    summary = embed(capsys, *night, "--check=content")
    assert summary["changes"] == changes(changed=1, unchanged=5)


def test_a_listed_image_is_known_by_its_version(
    scheme: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(photo.name for photo in (photos / "small").iterdir())
    uris = [f"{scheme}://{BUCKET}/in/{name}" for name in names]
    manifest = tmp_path / "list.txt"
    local = photos / "small" / "coffee.jpg"
    manifest.write_text("\n".join([*uris, str(local), f"{scheme}://{BUCKET}/in/gone.jpg"]))
    night = ("--manifest", str(manifest), "--output", str(tmp_path / "out"))
    first = embed(capsys, *night)
    assert (first["embedded"], first["failures_by_reason"]) == (7, {"not-found": 1})
    snapshot = featureid.open_snapshot(str(tmp_path / "out"))
    (failure,) = snapshot.failures()
    assert failure.key == f"{scheme}://{BUCKET}/in/gone.jpg" and "no such file" in failure.message
    versions = dict(zip(snapshot.row_keys(), snapshot.column("source_version"), strict=True))
    assert all(str(versions[uri]).startswith(VERSIONS[scheme]) for uri in uris)

    # What is missing is looked for again, the others are as they were.
    again = embed(capsys, *night)
    assert not again["published"] and again["changes"] == changes(changed=1, unchanged=7)
    write(scheme, "in/gone.jpg", local.read_bytes())
    write(scheme, f"in/{names[0]}", local.read_bytes())
    summary = embed(capsys, *night)
    assert summary["changes"] == changes(changed=2, unchanged=6) and summary["failed"] == 0


def test_images_of_a_manifest_are_asked_for_once(
    s3: S3, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uris = [f"s3://{BUCKET}/in/{photo.name}" for photo in (photos / "small").iterdir()]
    manifest = tmp_path / "list.txt"
    manifest.write_text("\n".join(uris))
    night = ("--manifest", str(manifest), "--output", str(tmp_path / "out"))
    embed(capsys, *night)
    s3.requests.clear()
    embed(capsys, *night)
    # Once more as the command looks whether there is any input.
    assert s3.requests["HEAD /photos/in/coffee.jpg"] <= 2
    assert not any(request.startswith("GET") for request in s3.requests)


def test_imports_a_prune_and_readers_all_at_once(s3: S3, tmp_path: Path) -> None:
    """Two imports at a time, and a prune that keeps one, each in its own process."""
    output = f"s3://{BUCKET}/out"
    command = ImportSamples(tmp_path).into(output)
    with featureid_process(command) as first:
        first.finish()
    with actors(output, "read", "prune 1"):
        for _ in range(5):
            with featureid_process(command) as one, featureid_process(command) as two:
                one.finish()
                two.finish()
    assert verify_snapshot(output).ok
    with featureid_process(["prune", output, "--keep=1"]) as prune:
        prune.finish()
    assert files.list_folder(f"{output}/snapshots") == [current_snapshot(output)]
