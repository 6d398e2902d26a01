"""The embed pipeline compared with the same work without Beam and with common alternatives.

    python benchmarks/embed.py [--images 3000] [--data DIR] [--json]

Everything runs in turn on one machine, each in a separate process: the pipeline through its
command; a bare loop with the same decoding, model and threads but without Beam; Keras
``model.predict`` on one image at a time; and OpenVINO in the bare loop if it is installed.  Rates
are measured from the moment the model is loaded; ``first_image_s`` shows the start-up time.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

from featureid.embedding import load_image, normalize
from featureid.models import ModelBundle, open_backend, resolve_model
from featureid.parallel import available_cpus

ROUNDS = 3
# How many times as many images the run has that shows whether memory grows.
MEMORY_FACTOR = 4
KERAS_IMAGES = 60

Infer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def run_pipeline(folder: Path, output: Path) -> dict[str, float]:
    """Run the command; return its rate, seconds, seconds to its first image and peak memory."""
    run = common.embed_images(folder, output)
    begun = datetime.fromisoformat(run.summary["started"]).timestamp()
    return {
        "rate": run.summary["images_per_s"],
        "first_image_s": begun - run.started + run.summary["first_image_s"],
        "peak_mb": run.peak_mb,
        "seconds": run.wall_s,
    }


def threaded_loop(folder: Path, make_infer: Callable[[ModelBundle], Infer]) -> float:
    """Return images/s of decoding, model and normalizing on all cores, one model per thread."""
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
    """Return the model as the pipeline runs it."""
    return open_backend(bundle, "litert").embed


def openvino_infer(bundle: ModelBundle) -> Infer:
    """Return the same network in OpenVINO, with one stream and one thread."""
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
    """Return images/s of the published method: Pillow, resize, ``predict`` on one image."""
    import keras
    from PIL import Image

    bundle = resolve_model("image")
    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(bundle.keras)
        file.flush()
        model = keras.saving.load_model(file.name, compile=False)
    size = (bundle.preprocessing.width, bundle.preprocessing.height)
    paths = sorted(folder.iterdir())[:KERAS_IMAGES]
    model.predict(np.zeros((1, *size[::-1], 3), np.float32), verbose=0)  # traces the graph
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


def measure(images: int, data: Path | None) -> dict[str, Any]:
    """Run everything and return the figures."""
    resolve_model("image")  # builds it on first use, which is not part of any figure
    with tempfile.TemporaryDirectory() as scratch:
        folder, large = Path(scratch, "images"), Path(scratch, "large")
        common.make_images(folder, images, data)
        common.make_images(large, MEMORY_FACTOR * images, data)
        runs, bare = [], []
        # In turn, so that changes in the machine's speed affect both.
        for _ in range(ROUNDS):
            runs.append(run_pipeline(folder, Path(scratch, "out")))
            bare.append(common.number_from(__file__, "--loop", "bare", folder))
        pipeline = common.medians(runs)
        ratios = [run["rate"] / rate for run, rate in zip(runs, bare, strict=True)]
        result: dict[str, Any] = {
            "images": images,
            "cores": available_cpus(),
            "pipeline_images_per_s": pipeline["rate"],
            "bare_loop_images_per_s": statistics.median(bare),
            "ratio": statistics.median(ratios),
            "first_image_s": pipeline["first_image_s"],
            "seconds": pipeline["seconds"],
            "peak_mb": max(run["peak_mb"] for run in runs),
            "large_images": MEMORY_FACTOR * images,
            "large_peak_mb": run_pipeline(large, Path(scratch, "out_large"))["peak_mb"],
            "keras_predict_images_per_s": common.number_from(__file__, "--loop", "keras", folder),
        }
        if find_spec("openvino"):
            rate = common.number_from(__file__, "--loop", "openvino", folder)
            result["openvino_images_per_s"] = rate
    return {name: round(value, 3) for name, value in result.items()}


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of photos to crop")
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        print(LOOPS[options.loop](options.folder))
        return
    common.print_result(measure(options.images, options.data), options.json)


if __name__ == "__main__":
    main()
