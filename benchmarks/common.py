"""What the benchmarks share: test images, runs of featureid, the command line and its output.

This is not a benchmark itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
FEATUREID = (sys.executable, "-m", "featureid")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Images that differ from each other; the rest are links to them.
DISTINCT_IMAGES = 200
IMAGE_SIZE = (640, 480)
_STDERR_TAIL = 2000


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--json`` whose help is the docstring of a benchmark."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    return parser


def use_one_thread() -> None:
    """Run this script anew with one thread for BLAS and OpenMP, unless it has only one.

    They read their settings as they are loaded.  Threads that wait for work use CPU time, so that
    figures per CPU second need it.
    """
    wanted = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def print_result(result: Mapping[str, Any], as_json: bool, table: str = "") -> None:
    """Print a table, by default one line per figure, and then with ``--json`` the JSON object."""
    print(table or "\n".join(f"{name:<36}{value}" for name, value in result.items()))
    if as_json:
        print(json.dumps(result))


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure of some rounds."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def photos(data: Path | None) -> Iterator[Image.Image]:
    """Yield the photos below ``data`` as RGB; by default those that scikit-image ships."""
    if data is None:
        import skimage

        data = Path(skimage.__file__).parent / "data"
    for path in sorted(data.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            try:
                yield Image.open(path).convert("RGB")
            except OSError:
                continue  # a folder of test images contains broken ones


def make_images(folder: Path, count: int, data: Path | None = None) -> None:
    """Create ``folder`` with ``count`` JPEGs: crops of real photos, each linked several times.

    This happens in a separate process: on Linux the peak memory of a child starts at that of its
    parent, so a benchmark that measures its children must stay small.
    """
    folder.mkdir()
    process = multiprocessing.Process(target=_make_images, args=(folder, count, data))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"making images failed with status {process.exitcode}")


def _make_images(folder: Path, count: int, data: Path | None) -> None:
    sources = [ImageOps.contain(photo, (1600, 1600)) for photo in photos(data)]
    rng = np.random.default_rng(0)
    for i in range(count):
        target = folder / f"{i:06d}.jpg"
        if i < DISTINCT_IMAGES:
            photo = sources[i % len(sources)]
            width, height = photo.size
            left, top = rng.uniform(0, 0.3, 2) * (width, height)
            box = (int(left), int(top), int(left + 0.7 * width), int(top + 0.7 * height))
            photo.crop(box).resize(IMAGE_SIZE).save(target, quality=90)
        else:
            os.link(folder / f"{i % DISTINCT_IMAGES:06d}.jpg", target)


@dataclass(frozen=True)
class Run:
    """A finished run of featureid.

    Attributes:
        summary: the JSON object that it printed.
        started: when it was started, in seconds since the epoch.
        wall_s: seconds that it took.
        cpu_s: seconds of CPU time of all its threads and the children it has waited for.
        peak_mb: its peak memory in MB.
    """

    summary: dict[str, Any]
    started: float
    wall_s: float
    cpu_s: float
    peak_mb: float


def run_featureid(*arguments: object, program: Sequence[str] = FEATUREID) -> Run:
    """Run a command of featureid with ``--json`` in a separate process.

    Raises:
        RuntimeError: it failed.
    """
    command = [*program, *map(str, arguments), "--json"]
    started, clock = time.time(), time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        with process.stdout as output:
            printed = output.read()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - clock
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            tail = errors.read()[-_STDERR_TAIL:].decode(errors="replace")
            raise RuntimeError(f"{command} failed with status {process.returncode}:\n{tail}")
    summary = json.loads(printed.splitlines()[-1])
    return Run(summary, started, wall, usage.ru_utime + usage.ru_stime, _peak_mb(usage))


def embed_images(
    images: object,
    output: Path,
    *options: str,
    refresh: bool = False,
    program: Sequence[str] = FEATUREID,
) -> Run:
    """Run ``featureid embed``, by default in full, whatever the output holds.

    Raises:
        RuntimeError: it or any of the images failed.
    """
    full = () if refresh else ("--no-previous",)
    run = run_featureid("embed", images, "--output", output, *full, *options, program=program)
    if run.summary["failed"]:
        raise RuntimeError(f"images failed: {run.summary}")
    return run


def number_from(script: str, *arguments: object) -> float:
    """Run a benchmark's script in a separate process and return the last number that it prints."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    try:
        # Not ru_maxrss, which on Linux starts with that of the process that called fork.
        return status_mb(Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        return _peak_mb(resource.getrusage(resource.RUSAGE_SELF))


def status_mb(status: str) -> float:
    """Return the peak memory in MB that the ``/proc/PID/status`` of a process states."""
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def _peak_mb(usage: resource.struct_rusage) -> float:
    """Return ``ru_maxrss`` in MB; it is in bytes on macOS and in KiB elsewhere."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
