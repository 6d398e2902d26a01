"""``featureid plan``, and the commands that keep house, through the real command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from featureid.cli import main as cli
from tests.nightly_samples import Nights


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    return Nights(photos, tmp_path, capsys)


def test_a_plan_foretells_what_the_run_then_does(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*nights.arguments(nights.output)[1:], "--json"]
    assert cli.main(["plan", *arguments]) == 0
    first = json.loads(capsys.readouterr().out)
    assert not nights.output.exists()  # nothing is written
    summary = nights.run()
    assert (first["images"], first["to_embed"], first["rows"]) == (7, 7, 6)
    assert first["failures_by_reason"] == summary["failures_by_reason"]
    assert first["num_shards"] == 2 and first["stopped"] == ""
    assert first["images_per_s"] > 0 and first["wall_s"] > 0
    assert first["peak_mb"] >= first["worker_mb"] > 10
    size = sum(file.stat().st_size for file in nights.output.rglob("embeddings-*"))
    # Headers, which the plan leaves out, are most of files as small as these.
    assert 0 < first["bytes"] < size

    shutil.copy(nights.pictures / "rocket.jpg", nights.pictures / "added.jpg")
    (nights.pictures / "camera.jpg").unlink()
    assert cli.main(["plan", *arguments]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["changes"] == nights.run()["changes"]
    assert (second["to_embed"], second["rows"]) == (1, 6)


def test_a_plan_tells_that_the_run_would_stop(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.run()
    for name in ("astronaut", "bad", "camera", "chelsea", "coffee", "rocket"):
        (nights.pictures / f"{name}.jpg").unlink()
    plan = ["plan", *nights.arguments(nights.output)[1:]]
    assert cli.main(plan) == 0
    out = capsys.readouterr().out
    assert "1 unchanged, 6 deleted" in out and "the run would stop: 6 of the 7" in out
    assert cli.main([*plan, "--no-previous"]) == 0
    out = capsys.readouterr().out
    assert f"the run would stop: {nights.output} has a snapshot of 7 images" in out
    assert cli.main([*plan, "--model=face"]) == 2
    assert "--new-model" in capsys.readouterr().err


def test_a_plan_of_wrong_use_is_one_line(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, message in [
        (["--sample=0"], "--sample is 0"),
        (["--num-shards=0"], "--num-shards is 0"),
    ]:
        assert cli.main(["plan", str(nights.pictures), *options]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_snapshots_and_prune_keep_house(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    nights.run()
    shutil.copy(nights.pictures / "rocket.jpg", nights.pictures / "added.jpg")
    nights.run()
    (nights.output / "snapshots" / "20200101T000000Z-aaaaaa").mkdir()
    assert cli.main(["snapshots", str(nights.output), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["snapshots"]
    assert [entry["state"] for entry in entries] == ["complete", "current", "dead"]
    assert entries[1]["previous"] == entries[0]["snapshot"]
    assert entries[1]["changes"]["new"] == 1 and entries[1]["rows"] == 7
    assert cli.main(["snapshots", str(nights.output)]) == 0
    assert "1 new, 7 unchanged" in capsys.readouterr().out
    assert cli.main(["prune", str(nights.output), "--keep=1", "--json"]) == 0
    removed = json.loads(capsys.readouterr().out)["pruned"]
    assert set(removed) == {entries[number]["snapshot"] for number in (0, 2)}
    assert cli.main(["prune", str(nights.output), "--keep=0"]) == 2
    assert "--keep is 0" in capsys.readouterr().err
