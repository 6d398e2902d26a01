"""The cost of incremental runs: by the share of images that changed, and for a million rows.

    python benchmarks/nightly.py [--images 3000] [--rows 1000000] [--no-full] [--data DIR] [--json]

First with the real model on real photos: a full run, then runs after 0, 1, 10 and 100 % of the
images have changed, each in a separate process.  ``start_up`` is the cost of any run that
publishes: a full run over one image into another output, which imports, loads the model, starts
Beam, embeds, publishes and ends but carries nothing over.  Everything that an incremental run does
for unchanged images therefore counts as its cost.  The runs of a round take turns, so that changes
in the machine's speed affect all; CPU seconds, of all cores, vary less with other load.
``allowed_s`` is what a run with 1 % changed may cost: 3 % of the full run plus the start-up.

Then the pipeline alone: a snapshot of a million rows, written directly, is refreshed by the real
command from a million existing files, with a model without cost in place of the real one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import common
import numpy as np

from featureid.durations import time_text
from featureid.embedding import Embedder, EmbedSettings, Result, describe_bundle
from featureid.inputs import ImageRef, InputSource, list_source
from featureid.models import ModelBundle, resolve_model
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.records import EmbeddingRow, ModelInfo, SnapshotInfo
from featureid.storage.run_record import RunRecord
from featureid.storage.shard import choose_num_shards, shard_of, write_shard
from featureid.storage.snapshot import new_snapshot_id

PERCENT = (0, 1, 10, 100)
# The cheap runs, whose cost must be distinguished from the start-up, are repeated in a round.
REPEATS = {"start_up": 3, "0": 3, "1": 3}
ROUNDS = 3
# What a run with 1 % changed may cost beyond the start-up, as a share of a full run.
ALLOWED_SHARE = 0.03
FILES_PER_FOLDER = 10_000


class FreeEmbedder(Embedder):
    """An Embedder without cost: it reads no file and derives vectors from keys."""

    def __init__(self, bundle: ModelBundle, settings: EmbedSettings) -> None:
        self.threads = 1
        self.info = describe_bundle(bundle, None)

    def submit(self, refs: Sequence[ImageRef]) -> Future[list[list[Result]]]:
        """Return the rows of ``refs`` as a future that is already done."""
        future: Future[list[list[Result]]] = Future()
        future.set_result([[free_row(ref, self.info.dimension)] for ref in refs])
        return future

    def close(self) -> None:
        """Do nothing, since there are no threads."""


def free_row(ref: ImageRef, dimension: int) -> EmbeddingRow:
    """Return a row of pseudo-random numbers derived from the key."""
    digest = hashlib.sha256(ref.key.encode()).digest()
    numbers = np.frombuffer(digest * (dimension * 2 // 32), "<i2").astype(np.float32) + 0.5
    vector = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return EmbeddingRow(ref.key, vector, digest, 100_000, ref.version, 640, 480)


def embed(
    folder: Path, output: Path, *, refresh: bool = False, free: bool = False
) -> dict[str, float]:
    """Run the command in a separate process; return its cost and the numbers of changes."""
    program = (sys.executable, __file__, "--free") if free else common.FEATUREID
    run = common.embed_images(folder, output, refresh=refresh, program=program)
    cost = {"seconds": run.wall_s, "cpu_s": run.cpu_s, "peak_mb": run.peak_mb}
    return {**cost, **run.summary["changes"]}


def change(folder: Path, percent: int) -> None:
    """Change the bytes, and thereby the modification time, of ``percent`` % of the images."""
    images = sorted(folder.iterdir())
    for image in images[:: 100 // percent] if percent else ():
        data = image.read_bytes()
        image.unlink()  # other files may be links to it
        image.write_bytes(data + b"\0")  # decoders ignore what follows the end of a JPEG


def measure_changes(images: int, data: Path | None) -> dict[str, Any]:
    """Return seconds and memory of runs after a share of the images has changed."""
    resolve_model("image")
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, one, output = (Path(scratch, name) for name in ("images", "one", "out"))
        common.make_images(folder, images, data)
        one.mkdir()
        shutil.copy(min(folder.iterdir()), one)
        for _ in range(ROUNDS):
            runs.setdefault("full", []).append(embed(folder, output))
            for name in ("start_up", *map(str, PERCENT)):
                for _ in range(REPEATS.get(name, 1)):
                    if name == "start_up":
                        done = embed(one, Path(scratch, "none"))
                    else:
                        change(folder, int(name))
                        done = embed(folder, output, refresh=True)
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
        "cost_share_without_start_up": beyond_start_up(wall),
        "cpu_share_without_start_up": beyond_start_up(cpu),
        "allowed_s": ALLOWED_SHARE * wall["full"] + wall["start_up"],
        "allowed_cpu_s": ALLOWED_SHARE * cpu["full"] + cpu["start_up"],
    }


def beyond_start_up(cost: dict[str, float]) -> dict[str, float]:
    """Return the cost beyond the start-up as a share of a full run, by percent changed."""
    return {
        str(percent): max(0.0, cost[str(percent)] - cost["start_up"]) / cost["full"]
        for percent in PERCENT
    }


def make_files(folder: Path, count: int) -> None:
    """Create ``count`` files, most of them links; file systems limit the links to one file."""
    for start in range(0, count, FILES_PER_FOLDER):
        subfolder = folder / f"{start:09d}"
        subfolder.mkdir(parents=True)
        first = subfolder / f"{start:09d}.jpg"
        first.write_bytes(b"not an image")
        for i in range(start + 1, min(start + FILES_PER_FOLDER, count)):
            os.link(first, subfolder / f"{i:09d}.jpg")


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
    writer.commit(summaries, failures=[], changes={})


def measure_rows(rows: int, full: bool) -> dict[str, Any]:
    """Measure runs that carry ``rows`` rows and add one, nothing, or 1 %; and a full run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = Path(scratch, "files"), Path(scratch, "out")
        make_files(folder, rows)
        # In a separate process, since a child's peak memory starts at its parent's.
        prepare = [sys.executable, __file__, "--prepare", str(folder), str(output)]
        subprocess.run(prepare, check=True)
        (folder / "new.jpg").write_bytes(b"new")
        carried = embed(folder, output, refresh=True, free=True)
        if carried["unchanged"] != rows:
            raise RuntimeError(f"not every row was carried over: {carried}")
        nothing = embed(folder, output, refresh=True, free=True)
        make_files(folder / "more", rows // 100)
        one = embed(folder, output, refresh=True, free=True)
        runs = {"carry_million": carried, "nothing_new": nothing, "one_percent": one}
        if full:
            runs["full_free"] = embed(folder, output, free=True)
    result: dict[str, Any] = {"rows": rows}
    for name, run in runs.items():
        result |= {f"{name}_s": run["seconds"], f"{name}_mb": run["peak_mb"]}
    return result


def run_free(argv: list[str]) -> int:
    """Run the real command with :class:`FreeEmbedder` in place of the real embedder."""
    from featureid.cli import main as cli
    from featureid.transforms import embed as transform

    transform.Embedder = FreeEmbedder  # type: ignore[attr-defined]
    return cli.main(argv)


def table(result: dict[str, Any]) -> str:
    """Return one line per figure."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            value = "  ".join(f"{run}: {number:.3f}" for run, number in value.items())
        lines.append(f"{name:<28}{value}")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and print its figures."""
    if sys.argv[1:2] == ["--free"]:
        sys.exit(run_free(sys.argv[2:]))
    if sys.argv[1:2] == ["--prepare"]:
        write_free_snapshot(*map(Path, sys.argv[2:]))
        return
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--images", type=int, default=3000, help="0 to skip this part; default: %(default)s")
    add("--rows", type=int, default=1_000_000, help="0 to skip this part; default: %(default)s")
    add("--data", type=Path, help="folder of photos to crop")
    add("--no-full", action="store_true", help="skip the full run over all rows, which is long")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    if options.images:
        result |= measure_changes(options.images, options.data)
    if options.rows:
        result |= measure_rows(options.rows, not options.no_full)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
