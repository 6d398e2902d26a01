"""What a nightly run costs: against the share of images that changed, and for a million rows.

    python benchmarks/nightly.py [--images 3000] [--rows 1000000] [--no-full] [--data DIR] [--json]

First with the real model on real pictures: a full run, then runs after 0, 1, 10 and 100 % of them
have changed, every one a process of its own.  ``start_up``, what any run costs that has something
to publish, is a full run over a single picture into another output: it imports, loads the model,
starts Beam, embeds, publishes and ends, and carries nothing, so that all that a night does for the
unchanged pictures counts as its cost.  The runs of a round follow one another, so that all see the
same ups and downs of the machine; CPU seconds, of all cores, vary less with what else it does.
``allowed_s`` is what 1 % changed may cost: 3 % of the full run and the start-up.

Then the machinery alone: a snapshot of a million rows, written directly, and refreshed by the real
command from a million files that are there, with a model of no cost in the place of the real one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from embed import embed_all, make_pictures  # benchmarks/embed.py

from featureid.durations import time_text
from featureid.embedding import EmbedSettings
from featureid.inputs import ImageRef, InputSource, list_source
from featureid.models import ModelBundle, resolve_model
from featureid.storage import (
    EmbeddingRow,
    Failure,
    ModelInfo,
    RunRecord,
    SnapshotInfo,
    SnapshotWriter,
    new_snapshot_id,
    shard_of,
    write_shard,
)
from featureid.storage.shard import choose_num_shards

ROOT = Path(__file__).parents[1]
PERCENT = (0, 1, 10, 100)
# The cheap runs, which are to be told from starting up, are repeated within a round.
REPEATS = {"start_up": 3, "0": 3, "1": 3}
ROUNDS = 3
# Of a full run, what 1 % changed may cost beyond starting up.
ALLOWED_SHARE = 0.03
FILES_A_FOLDER = 10_000


class FreeEmbedder:
    """Stands for an Embedder: no file is read, the vector follows from the key."""

    threads = 1

    def __init__(self, bundle: ModelBundle, settings: EmbedSettings) -> None:
        self._dimension = bundle.dimension
        self.preprocessing_digest = bundle.preprocessing.digest

    def submit(self, refs: Sequence[ImageRef]) -> Any:
        """Return what :meth:`Embedder.submit` would, done at once."""
        from concurrent.futures import Future

        future: Future[list[EmbeddingRow | Failure]] = Future()
        future.set_result([free_row(ref, self._dimension) for ref in refs])
        return future


def free_row(ref: ImageRef, dimension: int) -> EmbeddingRow:
    """A row of random numbers that follow from the key."""
    digest = hashlib.sha256(ref.key.encode()).digest()
    numbers = np.frombuffer(digest * (dimension * 2 // 32), "<i2").astype(np.float32) + 0.5
    vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return EmbeddingRow(ref.key, vector, digest, 100_000, ref.version, 640, 480)


def embed(folder: Path, output: Path, *options: str, free: bool = False) -> dict[str, float]:
    """Run the command in a process of its own; returns its seconds, and what it used."""
    command = [sys.executable, __file__, "--free"] if free else []
    command = command or [sys.executable, "-m", "featureid"]
    started = time.monotonic()
    summary, usage = embed_all(
        [*command, "embed", str(folder), "--output", str(output), "--json", *options]
    )
    seconds = time.monotonic() - started
    return {"seconds": seconds, **asdict(usage), **summary["changes"]}


def change(folder: Path, percent: int) -> None:
    """Give so many of the pictures other bytes, and all of those a new time of change."""
    pictures = sorted(folder.iterdir())
    step = 100 // percent if percent else 0
    for picture in pictures[::step] if step else ():
        data = picture.read_bytes()
        picture.unlink()  # it may be linked to others
        picture.write_bytes(data + b"\0")  # after the end of a JPEG, where no decoder looks


def measure_changes(images: int, data: Path | None) -> dict[str, Any]:
    """Seconds and memory of runs after a share of the pictures has changed."""
    resolve_model("image")
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, one, output = (Path(scratch, name) for name in ("pictures", "one", "out"))
        folder.mkdir()
        one.mkdir()
        # In a process of its own: what this one holds would count as memory of those it starts.
        make = multiprocessing.Process(target=make_pictures, args=(folder, images, data))
        make.start()
        make.join()
        shutil.copy(min(folder.iterdir()), one)
        for _ in range(ROUNDS):
            runs.setdefault("full", []).append(embed(folder, output))
            for name in ("start_up", *map(str, PERCENT)):
                for _ in range(REPEATS.get(name, 1)):
                    if name == "start_up":
                        done = embed(one, Path(scratch, "none"))
                    else:
                        change(folder, int(name))
                        done = embed(folder, output, "--previous=auto")
                    runs.setdefault(name, []).append(done)
    wall, cpu = (
        {name: statistics.median(run[figure] for run in done) for name, done in runs.items()}
        for figure in ("seconds", "cpu_s")
    )
    return {
        "images": images,
        "seconds": wall,
        "cpu_s": cpu,
        "peak_mb": {name: max(run["peak_mb"] for run in done) for name, done in runs.items()},
        "cost_share": {str(percent): wall[str(percent)] / wall["full"] for percent in PERCENT},
        # What a run costs beyond starting up, as a share of a full run.
        "cost_share_without_start_up": beyond_start_up(wall),
        "cpu_share_without_start_up": beyond_start_up(cpu),
        "allowed_s": ALLOWED_SHARE * wall["full"] + wall["start_up"],
        "allowed_cpu_s": ALLOWED_SHARE * cpu["full"] + cpu["start_up"],
    }


def beyond_start_up(cost: dict[str, float]) -> dict[str, float]:
    """What runs cost beyond starting up, as a share of a full run, by percent changed."""
    return {
        str(percent): max(0.0, cost[str(percent)] - cost["start_up"]) / cost["full"]
        for percent in PERCENT
    }


def make_files(folder: Path, count: int) -> None:
    """Make ``count`` files, links to few, since a file system has a limit of links to one."""
    for start in range(0, count, FILES_A_FOLDER):
        below = folder / f"{start:09d}"
        below.mkdir(parents=True)
        first = below / f"{start:09d}.jpg"
        first.write_bytes(b"no picture")
        for i in range(start + 1, min(start + FILES_A_FOLDER, count)):
            os.link(first, below / f"{i:09d}.jpg")


def write_free_snapshot(folder: Path, output: Path) -> None:
    """Publish a snapshot of the files in ``folder`` with rows of :func:`free_row`."""
    bundle = resolve_model("image")
    model = ModelInfo(
        bundle.name, bundle.digest, bundle.preprocessing.digest, bundle.dimension, "float32"
    )
    refs = [ref for ref in list_source(InputSource(str(folder))) if isinstance(ref, ImageRef)]
    now = datetime.now(UTC)
    shards = choose_num_shards(len(refs), model)
    info = SnapshotInfo(new_snapshot_id(now), time_text(now), "benchmark", model, shards)
    writer = SnapshotWriter(str(output), info, RunRecord.begin(info, {}, {}))
    writer.begin()
    parts: list[list[ImageRef]] = [[] for _ in range(shards)]
    for ref in refs:
        parts[shard_of(ref.key, shards)].append(ref)
    summaries = [
        write_shard(writer.folder, info, n, (free_row(ref, model.dimension) for ref in part))
        for n, part in enumerate(parts)
    ]
    writer.commit(info, summaries, failures=[], changes={})


def measure_rows(rows: int, full: bool) -> dict[str, Any]:
    """Carry ``rows`` rows and add one; then nothing, then 1 % more, and then all of them anew."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch, "files"), Path(scratch, "out")
        make_files(folder, rows)
        # In a process of its own, as above.
        prepare = [sys.executable, __file__, "--prepare", str(folder), str(output)]
        subprocess.run(prepare, check=True)
        (folder / "new.jpg").write_bytes(b"new")
        carried = embed(folder, output, "--previous=auto", free=True)
        if carried["unchanged"] != rows:
            raise RuntimeError(f"not every row was carried: {carried}")
        nothing = embed(folder, output, "--previous=auto", free=True)
        make_files(folder / "more", rows // 100)
        one = embed(folder, output, "--previous=auto", free=True)
        runs = {"carry_million": carried, "nothing_new": nothing, "one_percent": one}
        if full:
            runs["full_free"] = embed(folder, output, free=True)
    result: dict[str, Any] = {"rows": rows}
    for name, run in runs.items():
        result |= {f"{name}_s": run["seconds"], f"{name}_mb": run["peak_mb"]}
    return result


def run_free(argv: list[str]) -> int:
    """Run the real command with the embedder of no cost in the place of the real one."""
    import featureid.transforms.embed
    from featureid.cli import main as cli

    featureid.transforms.embed.Embedder = FreeEmbedder  # type: ignore[misc,assignment]
    return cli.main(argv)


def main() -> None:
    """Run the benchmark and print its table."""
    if sys.argv[1:2] == ["--free"]:
        sys.exit(run_free(sys.argv[2:]))
    if sys.argv[1:2] == ["--prepare"]:
        write_free_snapshot(*map(Path, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000, help="0 leaves that part out")
    parser.add_argument("--rows", type=int, default=1_000_000, help="0 leaves that part out")
    parser.add_argument("--data", type=Path, help="a folder of photos to take crops of")
    parser.add_argument("--no-full", action="store_true", help="leave out all rows anew (long)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if arguments.images:
        result |= measure_changes(arguments.images, arguments.data)
    if arguments.rows:
        result |= measure_rows(arguments.rows, not arguments.no_full)
    for key, value in result.items():
        if isinstance(value, dict):
            value = "  ".join(f"{name}: {number:.3f}" for name, number in value.items())
        print(f"{key:<28}{value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
