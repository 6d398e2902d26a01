"""``--metrics FILE`` of the real commands: what they did, also when they fail, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from featureid.cli import main as cli
from featureid.durations import parse_time
from featureid.storage.reader import open_snapshot
from featureid.storage.snapshot import checked_at

SUCCESS = "run_last_success_timestamp_seconds"
Metrics = dict[str, float]


def read(path: Path, **common: str) -> Metrics:
    """``run_images embedded`` -> value; every sample has the ``common`` labels."""
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        assert family.type == "gauge" and family.documentation.endswith(".")
        for sample in family.samples:
            labels = dict(sample.labels)
            for name, value in common.items():
                assert labels.pop(name) == value
            if sample.name.startswith("featureid_snapshot_"):
                labels.pop("model")
            name = " ".join([sample.name.removeprefix("featureid_"), *labels.values()])
            assert name not in found
            found[name] = sample.value
    return found


@pytest.fixture
def place(photos: Path, tmp_path: Path) -> Path:
    """A folder with six pictures and a file that is none, and ``textfiles`` for metrics."""
    shutil.copytree(photos / "small", tmp_path / "pictures")
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "textfiles").mkdir()
    return tmp_path


def embed(place: Path, *options: object) -> list[str]:
    """A command line that embeds the pictures and writes metrics."""
    places = (place / "pictures", "--output", place / "ids")
    metrics = ("--metrics", place / "textfiles" / "ids.prom", "--log-level=warning")
    return ["embed", *map(str, (*places, *metrics, *options))]


def run(place: Path, *options: object, status: int = 0) -> Metrics:
    """Embed in this process; return the metrics."""
    before = time.time()
    assert cli.main(embed(place, *options)) == status
    assert [path.name for path in (place / "textfiles").iterdir()] == ["ids.prom"]
    found = read(place / "textfiles" / "ids.prom", command="embed", output=str(place / "ids"))
    assert found.pop("run_exit_status") == status
    start = found.pop("run_start_timestamp_seconds")
    assert before - 0.01 <= start <= start + found.pop("run_duration_seconds") <= time.time() + 0.01
    assert not status or found.get(SUCCESS, 0) < before
    assert status or before < found[SUCCESS] <= time.time()
    return found


def snapshot_metrics(place: Path) -> Metrics:
    """What the metrics of the current snapshot must be, from the snapshot itself."""
    manifest = open_snapshot(str(place / "ids")).manifest
    counts, info = manifest.counts, manifest.info
    last = checked_at(str(place / "ids"), info.snapshot) or info.created
    return {
        "snapshot_timestamp_seconds": parse_time(last).timestamp(),
        "snapshot_images embedded": counts.embedded,
        "snapshot_images failed": counts.failed,
        **{f"snapshot_failures {name}": n for name, n in counts.failures_by_reason.items()},
        "snapshot_rows": manifest.rows,
        "snapshot_bytes": sum(shard.bytes for shard in manifest.embeddings),
    }


def outcomes(embedded: int, failed: int, carried: int, deleted: int) -> Metrics:
    return {
        "run_images embedded": embedded,
        "run_images failed": failed,
        "run_images carried": carried,
        "run_images deleted": deleted,
    }


def test_the_metrics_of_three_nights(place: Path) -> None:
    first = run(place)
    success = first.pop(SUCCESS)
    assert first == outcomes(6, 1, 0, 0) | snapshot_metrics(place)
    assert first["snapshot_failures not-an-image"] == 1
    # One is new, one is deleted.
    pictures = place / "pictures"
    shutil.copy(pictures / "rocket.jpg", pictures / "added.jpg")
    (pictures / "coffee.jpg").unlink()
    second = run(place, "--previous=auto")
    assert second.pop(SUCCESS) > success
    assert second == outcomes(1, 0, 6, 1) | snapshot_metrics(place)
    third = run(place, "--previous=auto")
    third.pop(SUCCESS)
    assert third == outcomes(0, 0, 7, 0) | snapshot_metrics(place)
    # The snapshot was found to be up to date.
    assert third["snapshot_timestamp_seconds"] >= second["snapshot_timestamp_seconds"]


def test_a_failure_keeps_the_time_of_the_last_success_and_the_snapshot(place: Path) -> None:
    good = run(place)
    success = good[SUCCESS]
    for options, status in (
        (["--max-failure-rate=0.1", "--re-embed", "--previous=auto"], 3),
        (["--bogus"], 2),
        (["--max_num_workers=many"], 2),
        (["--model=nosuch"], 2),
        (["--num-shards=0"], 2),
        (["--runner=DataflowRunner", "--no-wait"], 2),
    ):
        found = run(place, *options, status=status)
        assert found.pop(SUCCESS) == success
        assert not any(name.startswith("run_images") for name in found)
        snapshot = {name: n for name, n in found.items() if name.startswith("snapshot")}
        assert snapshot == snapshot_metrics(place)


def test_a_first_run_that_fails_claims_nothing(place: Path) -> None:
    shutil.rmtree(place / "pictures")
    assert run(place, status=2) == {}
    assert not (place / "ids").exists()


@pytest.mark.parametrize(("error", "status"), [(ZeroDivisionError, 1), (KeyboardInterrupt, 130)])
def test_an_error_of_any_kind_is_a_failure(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("featureid.jobs.embed.run", fail)
    with contextlib.suppress(ZeroDivisionError):
        assert cli.main(embed(place)) == status
    metrics = place / "textfiles" / "ids.prom"
    found = read(metrics, command="embed", output=str(place / "ids"))
    assert found["run_exit_status"] == status and SUCCESS not in found


def test_help_writes_no_metrics(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(embed(place, "--help"))
    assert "--metrics FILE" in capsys.readouterr().out
    assert not list((place / "textfiles").iterdir())


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("ids.txt", "ends in .prom"),
        ("nosuch/ids.prom", "is not a folder"),
        ("s3://bucket/ids.prom", "is not a folder on this machine"),
        ("folder.prom", "cannot be written"),
    ],
)
def test_a_file_that_cannot_be_written_stops_the_run_before_it_starts(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, cause: str
) -> None:
    (place / "folder.prom").mkdir()
    path = name if "://" in name else place / name
    assert cli.main(embed(place, "--metrics", path)) == 2
    assert cause in capsys.readouterr().err
    assert not (place / "ids").exists()


def test_metrics_that_cannot_be_written_after_all_make_a_run_fail(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_folder(*_: object) -> int:
        """End well, while the disk of the metrics goes."""
        shutil.rmtree(place / "textfiles")
        return 0

    monkeypatch.setattr("featureid.cli.embed._run", lose_the_folder)
    assert cli.main(embed(place)) == 1
    assert "Cannot write" in capsys.readouterr().err


def test_other_commands_report_in_series_of_their_own(place: Path) -> None:
    run(place)
    np.save(place / "one.npy", np.eye(1, 4, dtype=np.float32))
    ids, more = place / "ids", place / "more"
    for argv, output, status in (
        (["inspect", ids, "--max-failure-rate=0.2"], ids, 0),
        (["inspect", ids, "--max-failure-rate=0.1"], ids, 3),
        (["verify", ids], ids, 0),
        (["import", place / "one.npy", "--number-rows", "--model=m", "--output", more], more, 0),
        (["verify", place / "nosuch"], place / "nosuch", None),
    ):
        file = place / "textfiles" / f"{argv[0]}.prom"
        found = cli.main([*map(str, argv), "--metrics", str(file)])
        assert status in (found, None)
        metrics = read(file, command=str(argv[0]), output=str(output))
        assert metrics["run_exit_status"] == found
        assert (SUCCESS in metrics) == (found == 0) or argv[0] == "inspect"
        assert metrics.get("snapshot_rows") == {ids: 6, more: 1}.get(output)
    everything = "".join(path.read_text("utf-8") for path in (place / "textfiles").iterdir())
    samples = [line.rpartition(" ")[0] for line in everything.splitlines() if line[0] != "#"]
    assert len(samples) == len(set(samples)) > 30
