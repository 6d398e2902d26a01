"""The same pictures on several runners: images/s, and where the time goes; what a worker costs.

    python benchmarks/runners.py [--images 1000] [--also NAME=OPTIONS] [--json]

The local runner, and its worker processes, are always there.  ``--also`` adds a runner by Beam's
options for it; ``{pool}`` in them becomes the address of a worker pool that the benchmark starts:

    --also 'Flink, 2 slots=--runner=FlinkRunner --flink_version=1.20 --flink_master=localhost:8081
        --flink_job_server_jar=JAR --parallelism=2
        --environment_type=EXTERNAL --environment_config={pool}'
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embed import make_pictures

from featureid.parallel import available_cpus

ROOT = Path(__file__).parents[1]
ROUNDS = 3
LIMIT_S = 900
RUNNERS = {
    "local": "",
    "local, 2 processes": "--direct_num_workers=2 --direct_running_mode=multi_processing "
    "--threads=1",
}
# What a worker does before its first picture, each step told in seconds; then its memory.
WORKER = """
import json, resource, sys, time
steps, then = {}, time.monotonic()
def step(name):
    global then
    now = time.monotonic()
    steps[name], then = now - then, now
import apache_beam.runners.worker.sdk_worker_main
step("import_beam_s")
import featureid.transforms
step("import_featureid_s")
from featureid.embedding import Embedder, EmbedSettings
from featureid.inputs import ImageRef
from featureid.model_store import open_model
bundle = open_model(sys.argv[1], sys.argv[2])
step("read_model_s")
embedder = Embedder(bundle, EmbedSettings())
step("open_model_s")
(row,) = embedder.submit([ImageRef("a", sys.argv[3])]).result()
step("first_image_s")
steps["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
steps["imports_tensorflow"] = "tensorflow" in sys.modules or "keras" in sys.modules
print(json.dumps(steps))
"""


@contextmanager
def worker_pool() -> Iterator[tuple[str, dict[int, float]]]:
    """A worker pool: its address, and the peak memory of each of its workers in MB."""
    command = [sys.executable, "-m", "featureid", "worker-pool", "--port=0"]
    pool = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert pool.stdout is not None
    memory: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    stat = (process / "stat").read_text()
                    status = (process / "status").read_text()
                except OSError:  # It has ended.
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == pool.pid and "VmHWM" in status:
                    memory[int(process.name)] = int(status.split("VmHWM:")[1].split()[0]) / 1e3

    watcher = threading.Thread(target=watch)
    try:
        address = pool.stdout.readline().split()[-1]
        watcher.start()
        yield address, memory
    finally:
        done.set()
        pool.terminate()
        pool.wait()
        pool.stdout.close()


def run(pictures: Path, output: Path, options: str) -> dict[str, float]:
    """One run of the command: its rate and its seconds, by what they went into."""
    command = [sys.executable, "-m", "pipelines.embed", f"--input={pictures}", "--json"]
    done = subprocess.run(
        [*command, f"--output={output}", *shlex.split(options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=True,
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    embedding = summary["images"] / summary["images_per_s"]
    return {
        "images_per_s": summary["images_per_s"],
        "seconds": summary["seconds"],
        "until_first_image_s": summary["first_image_s"],
        "embedding_s": embedding,
        # The first picture counts as embedding, too; that is a tenth of a second.
        "rest_s": max(0.0, summary["seconds"] - summary["first_image_s"] - embedding),
    }


def measure_worker(picture: Path) -> dict[str, Any]:
    """What it takes a worker process to be ready, without a runner."""
    from featureid.model_store import keep_model
    from featureid.models import resolve_model

    bundle = resolve_model("image")
    with tempfile.TemporaryDirectory() as output:
        place = keep_model(output, bundle)
        command = [sys.executable, "-c", WORKER, place, bundle.digest, str(picture)]
        rounds = [
            json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(ROUNDS)
        ]
    return {
        **{name: statistics.median(found[name] for found in rounds) for name in rounds[0]},
        "imports_tensorflow": any(found["imports_tensorflow"] for found in rounds),
    }


def measure(images: int, also: dict[str, str]) -> dict[str, Any]:
    """Every runner in turn, several times, so that all see the same ups and downs."""
    with tempfile.TemporaryDirectory() as scratch, worker_pool() as (address, memory):
        pictures = Path(scratch, "pictures")
        pictures.mkdir()
        make_pictures(pictures, images, None)
        runners = {**RUNNERS, **also}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
        for _ in range(ROUNDS):
            for name, options in runners.items():
                filled = options.replace("{pool}", address)
                found[name].append(run(pictures, Path(scratch, "out"), filled))
        result: dict[str, Any] = {
            "images": images,
            "cores": available_cpus(),
            "runners": {
                name: {
                    figure: round(statistics.median(r[figure] for r in runs), 2)
                    for figure in runs[0]
                }
                for name, runs in found.items()
            },
            "worker": measure_worker(pictures / "000000.jpg"),
        }
        if memory:
            result["pool_worker_peak_mb"] = round(max(memory.values()), 1)
    return result


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=OPTIONS")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    arguments = parser.parse_args()
    also = dict(item.split("=", 1) for item in arguments.also)
    result = measure(arguments.images, also)
    figures = ["images_per_s", "seconds", "until_first_image_s", "embedding_s", "rest_s"]
    print(f"{result['images']} images, {result['cores']} cores; medians of {ROUNDS} runs")
    print(f"{'':<28}" + "".join(f"{figure:>21}" for figure in figures))
    for name, row in result["runners"].items():
        print(f"{name:<28}" + "".join(f"{row[figure]:>21}" for figure in figures))
    for name, value in result["worker"].items():
        print(f"worker {name:<21}{value if isinstance(value, bool) else round(value, 2)}")
    print(f"pool's workers, peak MB     {result.get('pool_worker_peak_mb', '-')}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
