"""The embed pipeline against the same work without Beam, and against what people run today.

    python benchmarks/embed.py [--images 3000] [--data DIR] [--json]

All in one run, each in a process of its own: the pipeline through its command; a bare loop with the
same decoding, model and threads but no Beam; Keras ``model.predict`` one image at a time; OpenVINO
in the bare loop where it is installed.  Rates begin when the model is loaded; start-up is told by
``first_image_s``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.embedding import load_image, normalize
from featureid.models import ModelBundle, open_backend, resolve_model
from featureid.parallel import available_cpus

ROOT = Path(__file__).parents[1]
ROUNDS = 3
MEMORY_FACTOR = 4
DISTINCT = 200
KERAS_IMAGES = 60
SIZE = (640, 480)

Infer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def make_pictures(folder: Path, count: int, data: Path | None) -> None:
    """Fill ``folder`` with ``count`` JPEGs: crops of real photos, each linked several times."""
    from PIL import Image, ImageOps

    if data is None:
        import skimage

        data = Path(skimage.__file__).parent / "data"
    photos = []
    for path in sorted(data.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            photos.append(ImageOps.contain(Image.open(path).convert("RGB"), (1600, 1600)))
    rng = np.random.default_rng(0)
    for i in range(count):
        target = folder / f"{i:06d}.jpg"
        if i < min(DISTINCT, count):
            photo = photos[i % len(photos)]
            width, height = photo.size
            left, top = rng.uniform(0, 0.3, 2) * (width, height)
            box = (int(left), int(top), int(left + 0.7 * width), int(top + 0.7 * height))
            photo.crop(box).resize(SIZE).save(target, quality=90)
        else:
            os.link(folder / f"{i % DISTINCT:06d}.jpg", target)


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of all cores together, and peak memory in MB."""

    cpu_s: float
    peak_mb: float


def run_command(command: Sequence[str]) -> tuple[dict[str, Any], Usage]:
    """Run a command that ends with ``--json``; returns what it prints, and what it used."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} failed with status {process.returncode}")
    return json.loads(printed), Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3)


def embed_all(command: Sequence[str]) -> tuple[dict[str, Any], Usage]:
    """The same for an ``embed``, of which no picture may fail."""
    summary, usage = run_command(command)
    if summary["failed"]:
        raise RuntimeError(f"pictures failed: {summary}")
    return summary, usage


def run_pipeline(folder: Path, output: Path) -> dict[str, float]:
    """Run the command; returns its rate, the seconds to its first image, its peak memory in MB."""
    command = [sys.executable, "-m", "featureid", "embed", str(folder)]
    started = time.time()
    summary, usage = embed_all([*command, "--output", str(output), "--json"])
    return {
        "rate": summary["images_per_s"],
        "first_image_s": summary["started"] - started + summary["first_image_s"],
        "peak_mb": usage.peak_mb,
        "seconds": time.time() - started,
    }


def in_own_process(name: str, folder: Path) -> float:
    """The rate of one of the loops below, run in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--loop", name, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout.split()[-1])


def threaded_loop(folder: Path, make_infer: Callable[[ModelBundle], Infer]) -> float:
    """Images/s of decode, model and normalise on all cores, each thread with its own model."""
    bundle = resolve_model("image")
    paths = [str(path) for path in sorted(folder.iterdir())]
    models = [make_infer(bundle) for _ in range(available_cpus())]
    local = threading.local()

    def take_model() -> None:
        local.infer = models.pop()

    def embed(path: str) -> npt.NDArray[np.float32]:
        (image,) = load_image(path, bundle.preprocessing)
        return normalize(local.infer(image.pixels[np.newaxis])[0])

    with ThreadPoolExecutor(available_cpus(), initializer=take_model) as pool:
        started = time.monotonic()
        done = list(pool.map(embed, paths))
        return len(done) / (time.monotonic() - started)


def litert_infer(bundle: ModelBundle) -> Infer:
    """The model as the pipeline runs it."""
    return open_backend(bundle, "litert").embed


def openvino_infer(bundle: ModelBundle) -> Infer:
    """The same network in OpenVINO, one stream and one thread."""
    import openvino

    core = openvino.Core()
    options = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(bundle.litert)
        file.flush()
        model = core.compile_model(core.read_model(file.name), "CPU", options)
    output = next(o for o in model.outputs if o.partial_shape[-1] == bundle.dimension)
    return lambda batch: model(bundle.preprocessing.scale(batch))[output]


def keras_predict_loop(folder: Path) -> float:
    """Images/s as the published method does it: Pillow, resize, ``predict`` on one image."""
    import io

    import keras
    from PIL import Image

    bundle = resolve_model("image")
    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(bundle.keras)
        file.flush()
        model = keras.saving.load_model(file.name, compile=False)
    size = (bundle.preprocessing.width, bundle.preprocessing.height)
    paths = sorted(folder.iterdir())[:KERAS_IMAGES]
    model.predict(np.zeros((1, *size[::-1], 3), np.float32), verbose=0)  # Traces the graph.
    started = time.monotonic()
    for path in paths:
        image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB").resize(size)
        pixels = bundle.preprocessing.scale(np.asarray(image)[np.newaxis])
        normalize(model.predict(pixels, verbose=0)["embedding"][0])
    return len(paths) / (time.monotonic() - started)


LOOPS: dict[str, Callable[[Path], float]] = {
    "bare": lambda folder: threaded_loop(folder, litert_infer),
    "openvino": lambda folder: threaded_loop(folder, openvino_infer),
    "keras": keras_predict_loop,
}


def installed(module: str) -> bool:
    """Whether a module can be imported, found out without importing it."""
    import importlib.util

    return importlib.util.find_spec(module) is not None


def measure(images: int, data: Path | None) -> dict[str, Any]:
    """Run everything and return the figures."""
    resolve_model("image")  # Built on first use; that is no part of any figure.
    with tempfile.TemporaryDirectory() as scratch:
        folder, large = Path(scratch, "pictures"), Path(scratch, "large")
        for target, count in ((folder, images), (large, MEMORY_FACTOR * images)):
            target.mkdir()
            # In a process of its own: a child's peak memory starts at what its parent holds.
            make = multiprocessing.Process(target=make_pictures, args=(target, count, data))
            make.start()
            make.join()
        pipeline, bare = [], []
        # In turn, so that both see the same ups and downs of the machine.
        for _ in range(ROUNDS):
            pipeline.append(run_pipeline(folder, Path(scratch, "out")))
            bare.append(in_own_process("bare", folder))
        result: dict[str, Any] = {
            "images": images,
            "cores": available_cpus(),
            "pipeline_images_per_s": statistics.median(run["rate"] for run in pipeline),
            "bare_loop_images_per_s": statistics.median(bare),
            "ratio": statistics.median(
                run["rate"] / rate for run, rate in zip(pipeline, bare, strict=True)
            ),
            "first_image_s": statistics.median(run["first_image_s"] for run in pipeline),
            "seconds": statistics.median(run["seconds"] for run in pipeline),
            "peak_mb": max(run["peak_mb"] for run in pipeline),
            "large_images": MEMORY_FACTOR * images,
            "large_peak_mb": run_pipeline(large, Path(scratch, "out_large"))["peak_mb"],
            "keras_predict_images_per_s": in_own_process("keras", folder),
        }
        if installed("openvino"):
            result["openvino_images_per_s"] = in_own_process("openvino", folder)
    return {key: round(value, 3) for key, value in result.items()}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--data", type=Path, help="a folder of photos to take crops of")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(LOOPS[arguments.loop](arguments.folder))
        return
    result = measure(arguments.images, arguments.data)
    for key, value in result.items():
        print(f"{key:<28}{value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
