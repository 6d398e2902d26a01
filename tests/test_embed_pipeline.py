"""The embed pipeline through its real entry points, on real pictures."""

import gc
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import featureid
from featureid.cli import main as cli
from featureid.embedding import Embedder
from featureid.errors import StorageError
from featureid.storage.shard import shard_of
from featureid.storage.verify import verify_snapshot
from tests.processes import wait_until

ROOT = Path(__file__).parents[1]
NUM_PHOTOS = 13


def featureid_command(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error."""
    status = cli.main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def embed(
    capsys: pytest.CaptureFixture[str], *argv: object, expected_status: int = 0
) -> dict[str, Any]:
    status, out, err = featureid_command(capsys, "embed", *argv, "--json")
    assert status == expected_status, err
    summary: dict[str, Any] = json.loads(out)
    return summary


def contents(output: object) -> dict[str, dict[str, bytes]]:
    """Shard file -> key -> vector bytes."""
    snapshot = featureid.open_snapshot(str(output))
    vectors = dict(snapshot)
    found: dict[str, dict[str, bytes]] = {}
    for summary in snapshot.manifest.embeddings:
        shard_number = int(summary.file.split("-")[1])
        found[summary.file] = {
            key: vector.tobytes()
            for key, vector in vectors.items()
            if shard_of(key, len(snapshot.manifest.embeddings)) == shard_number
        }
    return found


def test_photos_become_a_published_snapshot(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    summary = embed(capsys, photos, "--output", output, "--strip-prefix", f"{photos}/")
    assert summary["images"] == summary["embedded"] == NUM_PHOTOS
    assert (summary["failed"], summary["failures_by_reason"]) == (0, {})
    assert summary["snapshot"] == (output / "current").read_text().strip()
    assert verify_snapshot(str(output)).ok

    snapshot = featureid.open_snapshot(str(output))
    assert len(snapshot) == NUM_PHOTOS
    assert set(snapshot) >= {"astronaut.png", "small/astronaut.jpg", "mislabeled.png"}
    for key in ("coffee.png", "small/rocket.jpg"):
        np.testing.assert_array_equal(snapshot[key], featureid.generate_feature_id(photos / key))
    # Every thumbnail lies nearest to the photo it was made of, so the vectors mean something.
    for thumbnail in (key for key in snapshot if key.startswith("small/")):
        others = [key for key in snapshot if "/" not in key and key != "mislabeled.png"]
        nearest = max(others, key=lambda key: snapshot[thumbnail] @ snapshot[key])
        assert Path(nearest).stem == Path(thumbnail).stem


def test_shards_are_gzip_files(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = embed(capsys, photos, "--output", tmp_path / "out", "--num-shards", "3")
    files = sorted(Path(summary["folder"]).glob("*.gz"))
    assert [file.name for file in files] == [
        *(f"embeddings-{i:05d}-of-00003.fid.gz" for i in range(3)),
        "failures-00000-of-00001.jsonl.gz",
    ]
    subprocess.run(["gzip", "-t", *files], check=True)


def test_every_bad_file_is_one_failure_and_costs_no_other(
    photos: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    summary = embed(capsys, photos, broken, "--output", output)
    assert summary["embedded"] == NUM_PHOTOS
    failures = {Path(f.key).name: f for f in featureid.open_snapshot(str(output)).failures()}
    assert {name: (f.stage, f.reason) for name, f in failures.items()} == {
        "empty.jpg": ("decode", "empty"),
        "text.jpg": ("decode", "not-an-image"),
        "truncated.jpg": ("decode", "truncated"),
        "bomb.png": ("decode", "too-many-pixels"),
        "gone.jpg": ("read", "not-found"),
    }
    assert all(failure.message for failure in failures.values())
    assert summary["failures_by_reason"] == {
        reason: 1 for reason in sorted(f.reason for f in failures.values())
    }


def test_too_many_failures_is_an_exit_status_of_its_own(
    photos: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("embed", photos, broken, "--output", tmp_path / "out", "--max-failure-rate")
    status, _, err = featureid_command(capsys, *arguments, "0.2")
    assert status == 3 and err.count("\n") == 1
    assert "5 of the 18 images failed, more than --max-failure-rate=0.2 allows" in err
    assert featureid_command(capsys, *arguments, "0.3")[::2] == (0, "")
    status, _, err = featureid_command(capsys, "embed", broken, "--output", tmp_path / "none")
    assert status == 3 and "none of the 5 images could be embedded: 1 " in err
    assert "such as" in err and "Nothing is published; to publish" in err and "--publish-" in err
    assert not (tmp_path / "none").exists()
    anyway = ("embed", broken, "--output", tmp_path / "none", "--publish-anyway")
    status, _, err = featureid_command(capsys, *anyway)
    assert status == 3 and "none of the 5 images could be embedded; see featureid inspect" in err
    assert len(featureid.open_snapshot(str(tmp_path / "none"))) == 0


VARIANTS = {
    "again": [],
    "one thread": ["--threads", "1"],
    "four threads": ["--threads", "4"],
    "batch of 1": ["--batch-size", "1"],
    "batch of 64": ["--batch-size", "64"],
    "two processes": ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"],
}


def test_the_same_rows_in_the_same_shards_however_it_runs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(capsys, photos, "--output", tmp_path / "first", "--num-shards", "3")
    expected = contents(tmp_path / "first")
    assert sum(map(len, expected.values())) == NUM_PHOTOS
    for name, options in VARIANTS.items():
        embed(capsys, photos, "--output", tmp_path / name, "--num-shards", "3", *options)
        assert contents(tmp_path / name) == expected, name


def test_hints_for_workers_change_nothing_locally(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hints = ("--embed-hint", "min_ram=4GB", "--embed-hint", "accelerator=type:nvidia-l4;count:1")
    embed(capsys, photos, "--output", tmp_path / "plain")
    embed(capsys, photos, "--output", tmp_path / "hinted", *hints)
    assert contents(tmp_path / "hinted") == contents(tmp_path / "plain")


def test_inputs_may_be_mixed_and_overlap(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"uri\n{photos}/coffee.png\n{photos}/none.png\n")
    summary = embed(
        capsys,
        *(photos / "coffee.png", f"{photos}/small/*.jpg", f"--input={photos}/small"),
        *("--manifest", manifest, "--column", "uri", "--output", tmp_path / "out"),
    )
    assert (summary["embedded"], summary["failures_by_reason"]) == (7, {"not-found": 1})


def test_output_inside_the_input_is_not_embedded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((photos / "small" / "coffee.jpg").read_bytes())
    for _ in range(2):
        assert embed(capsys, folder, "--output", folder / "out")["images"] == 1


def test_float16_halves_the_vectors(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dtype in ("float32", "float16"):
        embed(capsys, photos, "--output", tmp_path / dtype, "--dtype", dtype)
    full, half = (featureid.open_snapshot(str(tmp_path / d)) for d in ("float32", "float16"))
    assert half.vectors().dtype == np.float32
    np.testing.assert_allclose(half.vectors(), full.vectors(), atol=5e-4)
    assert half.manifest.embeddings[0].bytes < full.manifest.embeddings[0].bytes - 128 * NUM_PHOTOS


@pytest.mark.parametrize("script", [("pipelines/embed.py",), ("-m", "pipelines.embed")])
def test_the_script_takes_beams_conventions(
    script: tuple[str, ...], photos: Path, tmp_path: Path
) -> None:
    options = [f"--input={photos}/small", f"--output={tmp_path}/out", "--runner=DirectRunner"]
    command = [sys.executable, *script, *options, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["embedded"] == 6


@pytest.fixture
def killed_run(photos: Path, tmp_path: Path) -> Path:
    """An output folder whose second run was killed while it embedded."""
    output, many = tmp_path / "out", tmp_path / "many"
    assert cli.main(["embed", str(photos), "--output", str(output)]) == 0
    many.mkdir()
    for i in range(400):
        os.link(photos / "small" / "coffee.jpg", many / f"{i}.jpg")
    command = ["embed", str(many), "--output", str(output), "--log-level=debug", "--threads=1"]
    command.append("--no-previous")
    run = subprocess.Popen(
        [sys.executable, "-m", "featureid", *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    # The log tells of the first image: from here to the last one is at least a second.
    assert any("the first of the images" in line for line in run.stderr)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.stderr.close()
    return output


def test_a_killed_run_leaves_the_snapshot_before_and_the_next_run_succeeds(
    killed_run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (killed_run / "current").read_text().strip()
    folders = sorted((killed_run / "snapshots").iterdir())
    (rubble,) = [folder for folder in folders if folder.name != before]
    assert not (rubble / "manifest.json").exists()
    assert len(featureid.open_snapshot(str(killed_run))) == NUM_PHOTOS
    with pytest.raises(StorageError, match="no complete snapshot"):
        featureid.open_snapshot(str(rubble))

    embed(capsys, photos / "small", "--output", killed_run, "--max-deleted=100%")
    assert rubble.exists()
    assert (killed_run / "current").read_text().strip() != before
    assert len(featureid.open_snapshot(str(killed_run))) == 6
    assert verify_snapshot(str(killed_run)).ok


def test_a_write_that_fails_is_one_line_and_publishes_nothing(photos: Path, tmp_path: Path) -> None:
    def no_file_over_2_kb() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    output = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "featureid", "embed", str(photos), "--output", str(output)],
        cwd=ROOT,
        preexec_fn=no_file_over_2_kb,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("featureid: ")]
    assert "Cannot write" in line and line.endswith("File too large")
    assert "Traceback" not in done.stderr
    assert not (output / "current").exists()
    assert not list(output.rglob("*.json"))


def test_inspect_and_verify_tell_what_is_there(
    photos: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    embed(capsys, photos, broken, "--output", output)
    status, out, _ = featureid_command(capsys, "inspect", output, "--failures", "--keys", "--json")
    described = json.loads(out)
    assert status == 0
    assert (described["rows"], described["failed"]) == (NUM_PHOTOS, 5)
    assert len(described["failures"]) == 5 and len(described["image_keys"]) == NUM_PHOTOS
    assert described["model"]["name"] == "image"

    status, out, _ = featureid_command(capsys, "inspect", output, "--failures")
    assert status == 0 and "bomb.png: too-many-pixels (decode)" in out

    assert featureid_command(capsys, "verify", output)[0] == 0
    shard = next(Path(described["folder"]).glob("embeddings-*"))
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    status, out, _ = featureid_command(capsys, "verify", output)
    assert status == 1 and shard.name in out and "bytes" in out
    status, out, _ = featureid_command(capsys, "verify", output, "--json")
    assert status == 1 and json.loads(out)["ok"] is False


def test_failures_file_is_gzipped_json_lines(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--output", tmp_path / "out", "--publish-anyway")
    summary = embed(capsys, broken, *options, expected_status=3)
    with gzip.open(Path(summary["folder"]) / "failures-00000-of-00001.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    assert len(rows) == 5


def process_state() -> dict[str, object]:
    """What a run could leave behind in its process."""
    gc.collect()
    return {
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "hook": threading.excepthook,
        "OpenCV's threads": cv2.getNumThreads(),
        "embedders": sum(isinstance(item, Embedder) for item in gc.get_objects()),
    }


def threads() -> set[threading.Thread]:
    gc.collect()
    return set(threading.enumerate())


def test_a_run_leaves_nothing_behind_in_its_process(photos: Path, tmp_path: Path) -> None:
    before, known = process_state(), threads()
    assert cli.main(["embed", str(photos / "small"), "--output", str(tmp_path)]) == 0
    wait_until(lambda: threads() <= known)  # Beam's end soon after, as do those of earlier tests.
    assert process_state() == before
