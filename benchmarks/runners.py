"""The same images on several runners: images/s, where the time goes, and the cost of a worker.

    python benchmarks/runners.py [--images 1000] [--also NAME=OPTIONS] [--json]

The local runner is always measured, without and with worker processes.  ``--also`` adds a runner
by its Beam options; ``{pool}`` in them is replaced by the address of a worker pool that the
benchmark starts:

    --also 'Flink, 2 slots=--runner=FlinkRunner --flink_version=1.20 --flink_master=localhost:8081
        --flink_job_server_jar=JAR --parallelism=2
        --environment_type=EXTERNAL --environment_config={pool}'
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common

from featureid.parallel import available_cpus

ROUNDS = 3
RUNNERS = {
    "local": "",
    "local, 2 processes": "--direct_num_workers=2 --direct_running_mode=multi_processing "
    "--threads=1",
}
FIGURES = ("images_per_s", "seconds", "until_first_image_s", "embedding_s", "rest_s")
# Prints the seconds of each step of a worker until its first image, and then its memory.
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
bundle = open_model(sys.argv[1], sys.argv[2], content=sys.argv[3])
step("read_model_s")
embedder = Embedder(bundle, EmbedSettings())
step("open_model_s")
(row,) = embedder.submit([ImageRef("a", sys.argv[4])]).result()
step("first_image_s")
steps["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps(steps))
"""


@contextmanager
def worker_pool() -> Iterator[tuple[str, dict[int, float]]]:
    """Start a worker pool; give its address and its workers' peak memory in MB by process id."""
    command = [*common.FEATUREID, "worker-pool", "--port=0", "--allow-root"]
    pool = subprocess.Popen(
        command, cwd=common.ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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
                except OSError:  # the process has ended
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == pool.pid and "VmHWM" in status:
                    memory[int(process.name)] = common.status_mb(status)

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


def run(images: Path, output: Path, options: str) -> dict[str, float]:
    """Run the command once; return its rate and its seconds by what they were spent on."""
    summary = common.embed_images(images, output, *shlex.split(options)).summary
    embedding = summary["images"] / summary["images_per_s"]
    return {
        "images_per_s": summary["images_per_s"],
        "seconds": summary["wall_s"],
        "until_first_image_s": summary["first_image_s"],
        "embedding_s": embedding,
        # The first image counts as embedding, too; that is a tenth of a second.
        "rest_s": max(0.0, summary["wall_s"] - summary["first_image_s"] - embedding),
    }


def measure_worker(image: Path) -> dict[str, Any]:
    """Return what it takes until a worker process is ready, without a runner."""
    from featureid.model_store import keep_model
    from featureid.models import resolve_model
    from featureid.models.bundle import content_digest

    bundle = resolve_model("image")
    held = [bundle.digest, content_digest(bundle)]
    with tempfile.TemporaryDirectory() as output:
        place = keep_model(output, bundle)
        command = [sys.executable, "-c", WORKER, place, *held, str(image)]
        rounds = [
            json.loads(subprocess.check_output(command, cwd=common.ROOT)) for _ in range(ROUNDS)
        ]
    return common.medians(rounds)


def measure(images: int, also: dict[str, str]) -> dict[str, Any]:
    """Measure every runner in turn, several times, so that the machine's changes affect all."""
    with tempfile.TemporaryDirectory() as scratch, worker_pool() as (address, memory):
        folder = Path(scratch, "images")
        common.make_images(folder, images)
        runners = {**RUNNERS, **also}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
        for _ in range(ROUNDS):
            for name, options in runners.items():
                filled = options.replace("{pool}", address)
                found[name].append(run(folder, Path(scratch, "out"), filled))
        result: dict[str, Any] = {
            "images": images,
            "cores": available_cpus(),
            "runners": {
                name: {figure: round(value, 2) for figure, value in common.medians(runs).items()}
                for name, runs in found.items()
            },
            "worker": measure_worker(folder / "000000.jpg"),
        }
        if memory:
            result["pool_worker_peak_mb"] = round(max(memory.values()), 1)
    return result


def table(result: dict[str, Any]) -> str:
    """Return a table with one line per runner, and then the cost of a worker."""
    lines = [
        f"{result['images']} images, {result['cores']} cores; medians of {ROUNDS} runs",
        f"{'':<28}" + "".join(f"{figure:>21}" for figure in FIGURES),
    ]
    for name, row in result["runners"].items():
        lines.append(f"{name:<28}" + "".join(f"{row[figure]:>21}" for figure in FIGURES))
    for name, value in result["worker"].items():
        lines.append(f"worker {name:<21}{value if isinstance(value, bool) else round(value, 2)}")
    lines.append(f"pool worker, peak MB        {result.get('pool_worker_peak_mb', '-')}")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=OPTIONS",
        help="another runner and its Beam options; may be repeated",
    )
    options = parser.parse_args()
    also = dict(item.split("=", 1) for item in options.also)
    result = measure(options.images, also)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
