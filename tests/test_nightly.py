"""Night after night through the real command: what changed, and what a run may never do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import featureid
from featureid.cli import main as cli
from featureid.storage.run_record import read_run
from featureid.storage.verify import verify_snapshot
from tests.nightly_samples import Nights, contents

ROOT = Path(__file__).parents[1]


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    """Six good pictures and a bad one, embedded once."""
    found = Nights(photos, tmp_path, capsys)
    found.run()
    return found


def changes(**numbers: int) -> dict[str, int]:
    return dict.fromkeys(("new", "changed", "retried", "unchanged", "deleted"), 0) | numbers


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000_000))


def test_nothing_new_publishes_nothing(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    before = nights.current
    summary = nights.run()
    assert (summary["published"], summary["changes"]) == (False, changes(unchanged=7))
    assert summary["snapshot"] == before and nights.current == before
    assert len(list((nights.output / "snapshots").iterdir())) == 1
    assert cli.main(nights.arguments(nights.output)) == 0
    assert "no changes; nothing published" in capsys.readouterr().out
    checked = (nights.output / "checked").read_text().split()
    assert cli.main(["inspect", str(nights.output), "--json"]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert checked == [before, inspected["checked"]]
    assert inspected["created"] <= inspected["checked"]
    assert not nights.run("--check=content")["published"]
    assert not nights.run("--retry-failed")["published"]


def test_a_previous_snapshot_without_rows_is_one_nevertheless(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = Nights(photos, tmp_path, capsys)
    good = tmp_path / "good"
    good.mkdir()
    for path in nights.pictures.glob("*.jpg"):
        if path.name != "bad.jpg":
            path.rename(good / path.name)
    # Status 3: no image could be embedded.
    assert cli.main(nights.arguments(nights.output, "--publish-anyway")) == 3
    assert len(featureid.open_snapshot(nights.output)) == 0
    capsys.readouterr()
    assert not nights.run()["published"]
    assert len(list((nights.output / "snapshots").iterdir())) == 1
    for path in good.iterdir():
        path.rename(nights.pictures / path.name)
    assert nights.run()["changes"] == changes(new=6, unchanged=1)
    nights.check()


def test_only_what_changed_is_embedded_and_the_result_is_that_of_a_full_run(
    nights: Nights,
) -> None:
    pictures = nights.pictures
    # The first night: one is added, one changed, one touched, one that was good is corrupt.
    shutil.copy(pictures / "rocket.jpg", pictures / "added.jpg")
    (pictures / "camera.jpg").write_bytes((pictures / "coffee.jpg").read_bytes())
    touch(pictures / "chelsea.jpg")
    whole = (pictures / "astronaut.jpg").read_bytes()
    (pictures / "astronaut.jpg").write_bytes(whole[: len(whole) // 2])
    summary = nights.run()
    assert summary["changes"] == changes(new=1, changed=3, unchanged=4)
    assert summary["failures_by_reason"] == {"not-an-image": 1, "truncated": 1}
    nights.check()
    # The second: one is deleted, one renamed, and both that are corrupt are repaired.
    (pictures / "added.jpg").unlink()
    (pictures / "coffee.jpg").rename(pictures / "tea.jpg")
    (pictures / "astronaut.jpg").write_bytes(whole)
    shutil.copy(pictures / "rocket.jpg", pictures / "bad.jpg")
    summary = nights.run()
    assert summary["changes"] == changes(new=1, changed=2, unchanged=4, deleted=2)
    assert summary["failed"] == 0
    nights.check()


def test_a_touched_picture_costs_no_inference_by_content(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    rocket = nights.pictures / "rocket.jpg"
    touch(rocket)
    shutil.copy(nights.pictures / "coffee.jpg", nights.pictures / "camera.jpg")
    summary = nights.run("--check=content")
    assert summary["changes"] == changes(changed=1, unchanged=6)
    report = read_run(summary["folder"])
    assert report is not None and report.metrics is not None
    assert report.metrics["embedded"] == 1 and report.metrics["same_content"] == 5
    nights.check()
    assert not nights.run()["published"]  # the new version was remembered
    # Other bytes with the same size and time are found by content, and only so.
    status, data = rocket.stat(), bytearray(rocket.read_bytes())
    data[-20] ^= 1
    rocket.write_bytes(data)
    os.utime(rocket, ns=(1, status.st_mtime_ns))
    assert not nights.run()["published"]
    assert nights.run("--check=content")["changes"] == changes(changed=1, unchanged=6)
    nights.check()


def test_known_failures_are_not_tried_again_unless_asked(nights: Nights) -> None:
    (nights.pictures / "gone.jpg").symlink_to("nowhere.jpg")
    summary = nights.run()
    report = read_run(summary["folder"])
    assert report is not None and report.metrics is not None
    assert report.metrics["failed"] == 1 and summary["failed"] == 2
    nights.check()
    again = nights.run("--retry-failed")
    # A link that leads nowhere has no version, so that it is always looked at.
    assert again["changes"] == changes(changed=1, retried=1, unchanged=6)
    assert not again["published"]


def test_another_model_is_never_mixed_in(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featureid.models import resolve_model
    from featureid.models.bundle import with_own_digest, write_bundle

    model = resolve_model("image")
    digest = with_own_digest(model).digest  # of the same network, made elsewhere
    other = tmp_path / "other.fidmodel"
    other.write_bytes(write_bundle(with_own_digest(model)))
    before = nights.current
    for options in ([], ["--re-embed"], ["--no-previous"]):
        error = nights.run(f"--model={other}", *options, status=2)["error"]
        assert model.digest in error and digest in error
        assert "--new-model" in error and "--output" in error
    error = nights.run("--dtype=float16", status=2)["error"]
    assert "float32" in error and "--re-embed" in error
    assert nights.current == before and len(list((nights.output / "snapshots").iterdir())) == 1
    summary = nights.run(f"--model={other}", "--new-model", "--check=content")
    assert summary["changes"] == changes(changed=7)
    assert featureid.open_snapshot(str(nights.output)).model.digest == digest


def test_an_empty_or_half_empty_input_never_empties_the_gallery(nights: Nights) -> None:
    before = nights.current
    hidden = nights.pictures.with_name("hidden")
    nights.pictures.rename(hidden)
    nights.pictures.mkdir()
    assert "holds no file" in nights.run(status=2)["error"]
    (hidden / "coffee.jpg").rename(nights.pictures / "coffee.jpg")
    for options in ([], ["--no-previous"]):
        error = nights.run(*options, status=1)["error"]
        assert "6 " in error and "--max-deleted=6" in error and "Nothing is published" in error
    assert nights.current == before and len(list((nights.output / "snapshots").iterdir())) == 1
    (hidden / "astronaut.jpg").rename(nights.pictures / "astronaut.jpg")
    assert nights.run()["changes"] == changes(unchanged=2, deleted=5)
    nights.check()


def test_another_number_of_shards_is_something_new(nights: Nights) -> None:
    summary = nights.run("--num-shards=3")
    assert summary["published"] and summary["changes"] == changes(unchanged=7)
    assert contents(nights.output)[0].keys() and verify_snapshot(str(nights.output)).ok
    nights.check()


def test_a_reader_that_is_open_goes_on_undisturbed(nights: Nights) -> None:
    reader = featureid.open_snapshot(str(nights.output))
    before = contents(nights.output)
    shutil.copy(nights.pictures / "rocket.jpg", nights.pictures / "added.jpg")
    nights.run()
    assert sorted(reader.row_keys()) == sorted(before[0]) and len(reader.vectors()) == 6


def test_two_runs_at_once_both_end_valid(nights: Nights) -> None:
    shutil.copy(nights.pictures / "rocket.jpg", nights.pictures / "added.jpg")
    command = [sys.executable, "-m", "featureid"]
    command += nights.arguments(nights.output, "--json")
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    summaries = [json.loads(run.communicate()[0]) for run in both]
    assert [run.returncode for run in both] == [0, 0]
    for summary in summaries:
        assert verify_snapshot(summary["folder"]).ok
    # Which ids the two got is chance; the newer one is current, whoever ended last.
    assert nights.current == max(path.name for path in (nights.output / "snapshots").iterdir())
    nights.check()


def test_a_run_tells_what_it_did(nights: Nights) -> None:
    shutil.copy(nights.pictures / "rocket.jpg", nights.pictures / "added.jpg")
    before = nights.current
    summary = nights.run()
    report = json.loads(Path(summary["folder"], "run.json").read_text())
    assert report["previous"] == before
    assert report["options"]["refresh"]["previous"] == "auto"
    assert report["versions"]["apache-beam"] and report["writer"].startswith("featureid ")
    assert report["changes"] == changes(new=1, unchanged=7)
    assert report["counts"] == {"images": 8, "embedded": 7, "failed": 1, "kept": 0, "rows": 7}
    assert report["failures_by_reason"] == {"not-an-image": 1}
    assert {"list", "plan", "embed", "write", "publish"} <= set(report["timings"])
    assert all(seconds >= 0 for seconds in report["timings"].values())
    assert report["metrics"]["embedded"] == 1 and report["metrics"]["images_per_s"] > 0


def test_options_that_need_a_previous_snapshot_say_so(nights: Nights) -> None:
    error = nights.run("--retry-failed", "--no-previous", status=2)["error"]
    assert "leave out --no-previous" in error
    error = nights.run("--previous=auto", "--no-previous", status=2)["error"]
    assert "not allowed with" in error
    error = nights.run("--previous", nights.pictures, status=1)["error"]
    assert "no complete snapshot" in error


def test_a_damaged_previous_snapshot_stops_a_run_unless_it_is_ignored(nights: Nights) -> None:
    folder = nights.output / "snapshots" / nights.current
    shard = next(folder.glob("embeddings-*"))
    (nights.pictures / "new.jpg").write_bytes(b"new")
    for damaged in (shard, folder / "failures-00000-of-00001.jsonl.gz", folder / "manifest.json"):
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        error = nights.run(status=1)["error"]
        assert damaged.name in error and error.endswith("add --no-previous\n"), error
    (folder / "manifest.json").unlink()
    assert nights.run(status=1)["error"].endswith("add --no-previous\n")
    assert nights.run("--no-previous")["published"]
    nights.check()
