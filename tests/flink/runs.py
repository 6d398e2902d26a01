"""Runs of the command on a runner elsewhere, compared with a run on this machine."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import featureid
from featureid.storage.verify import verify_snapshot
from tests.match_samples import embedded, write
from tests.matching_samples import sample
from tests.processes import ROOT, Pool, children, stop, wait_until, with_model
from tests.storage_samples import make_info

LIMIT_S = 240
SHARDS = 3
WORKER = "sdk_worker_main"
#: Images of a gallery, half of which are matched with it, in two tasks.
MATCHED = 12_000


def command(pictures: Path | str, output: Path | str, options: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "pipelines.embed", f"--input={pictures}"),
        *(f"--output={output}", f"--num-shards={SHARDS}", "--threads=1", *options),
    ]


def embed(pictures: Path | str, output: Path | str, options: list[str]) -> featureid.Snapshot:
    """Run to the end and open what was published."""
    done = subprocess.run(
        command(pictures, output, options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert verify_snapshot(str(output)).ok
    return featureid.open_snapshot(str(output))


def results(pipeline: str, options: list[str]) -> featureid.Results:
    """Run a pipeline on snapshots, and open what was published."""
    output = options[[option.startswith("--output=") for option in options].index(True)]
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{pipeline}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return featureid.open_results(output.removeprefix("--output="))


def write_matched(folder: Path) -> tuple[str, str, str]:
    """Write snapshots of queries and of a gallery, and an older one with half of the queries."""
    vectors = sample("random", MATCHED, 16, 1)
    images = [embedded(f"{n:05}.jpg", vector) for n, vector in enumerate(vectors)]
    info = make_info(3, dimension=16)
    half = len(images) // 2
    parts = {"query": images[::2], "gallery": images, "older": images[:half:2]}
    places = [write(folder / name, rows, info, 1536) for name, rows in parts.items()]
    return places[0], places[1], places[2]


def write_rows(folder: Path, rows: int) -> str:
    """Write a snapshot of random rows, many of which are near others."""
    images = [
        embedded(f"{n:05}.jpg", vector) for n, vector in enumerate(sample("random", rows, 8, 1))
    ]
    return write(folder / "rows", images, make_info(3, dimension=8), 100)


@contextlib.contextmanager
def embedding(
    pictures: Path, output: Path, options: list[str], pool: Pool, log: Path
) -> Iterator[subprocess.Popen[str]]:
    """A run that a worker of ``pool`` has begun to embed for."""
    before = with_model(workers(pool))
    with log.open("w", encoding="utf-8") as file:
        run = subprocess.Popen(
            command(pictures, output, options),
            cwd=ROOT,
            stderr=file,
            text=True,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: bool(with_model(workers(pool)) - before) or run.poll() is not None, LIMIT_S
        )
        assert run.poll() is None, log.read_text(encoding="utf-8")[-4000:]
        yield run
    finally:
        stop(run)


def workers(pool: Pool) -> list[int]:
    return children(pool.process.pid, WORKER)


def check_recovers_or_publishes_nothing(
    fault: Callable[[], object],
    expected: featureid.Snapshot,
    pictures: Path,
    options: list[str],
    pool: Pool,
    folder: Path,
) -> None:
    """Let a run meet a fault: the same rows come of it, or nothing; and the next run succeeds."""
    output, log = folder / "out", folder / "log"
    with embedding(pictures, output, options, pool, log) as run:
        fault()
        status = run.wait(LIMIT_S)
    print(f"\nafter the fault: exit status {status}; {last_line(log)}")
    if status == 0:
        check_same(expected, featureid.open_snapshot(str(output)))
    else:
        assert status == 1
        assert last_line(log).startswith("featureid: ")
        assert not (output / "current").exists()
        assert not list(output.rglob("manifest.json"))
    check_same(expected, embed(pictures, output, options))


def last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8").splitlines() or [""])[-1]


def check_same(expected: featureid.Snapshot, found: featureid.Snapshot) -> None:
    """The same rows in the same shards; prints the largest difference of any number."""
    assert found.keys() == expected.keys()
    assert [(s.file, s.rows, s.first_key, s.last_key) for s in found.manifest.embeddings] == [
        (s.file, s.rows, s.first_key, s.last_key) for s in expected.manifest.embeddings
    ]
    difference = float(np.abs(found.vectors() - expected.vectors()).max())
    rows, shards = len(found), len(found.manifest.embeddings)
    print(f"\n{rows} rows in {shards} shards, the same; largest vector difference {difference:g}")
    assert difference < 1e-5


def link_many(photos: Path, folder: Path, count: int) -> Path:
    """So many pictures that there is time for a fault while they are embedded."""
    folder.mkdir()
    small = sorted((photos / "small").iterdir())
    for i in range(count):
        os.link(small[i % len(small)], folder / f"{i:04d}.jpg")
    return folder
