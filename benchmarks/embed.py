"""The embed pipeline compared with the same work without Beam and with common alternatives.

    python benchmarks/embed.py [--images 3000] [--data DIR] [--json]

Everything runs in turn on one machine, each in a separate process: the pipeline through its
command; a bare loop with the same decoding, model and threads but without Beam; a plain loop, one
image at a time through Pillow and ONNX Runtime with its defaults; and OpenVINO in the bare loop if
it is installed.  Rates are measured from the moment the model is loaded; ``first_image_s`` shows
the start-up time.
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

from featureid.embedding import normalize
from featureid.model_input import load_image
from featureid.models import ModelBundle, open_backends, resolve_model
from featureid.parallel import available_cpus

ROUNDS = 3
# How many times as many images the run has that shows whether memory grows.
MEMORY_FACTOR = 4
PLAIN_IMAGES = 300

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


def threaded_loop(folder: Path, make_infers: Callable[[ModelBundle, int], list[Infer]]) -> float:
    """Return images/s of decoding, model and normalizing on all cores, one model per thread."""
    bundle = resolve_model("image")
    paths = [str(path) for path in sorted(folder.iterdir())]
    models = make_infers(bundle, available_cpus())
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


def pipeline_infers(bundle: ModelBundle, threads: int) -> list[Infer]:
    """Return the model as the pipeline runs it."""
    return [backend.embed for backend in open_backends(bundle, None, threads)]


def openvino_infers(bundle: ModelBundle, threads: int) -> list[Infer]:
    """Return the same model in OpenVINO, each with one stream and one thread."""
    import openvino

    core = openvino.Core()
    options = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(bundle.network.data)
        file.flush()
        network = core.read_model(file.name)
    return [
        _openvino_infer(bundle, core.compile_model(network, "CPU", options)) for _ in range(threads)
    ]


def _openvino_infer(bundle: ModelBundle, model: Any) -> Infer:
    reduction = bundle.reduction
    assert reduction is not None

    def infer(batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return reduction.apply(model(bundle.preprocessing.scale(batch, "nchw"))[0])

    return infer


def plain_loop(folder: Path) -> float:
    """Return images/s of what one writes first: Pillow and a session, one image at a time."""
    import onnxruntime
    from PIL import Image

    bundle = resolve_model("image")
    assert bundle.reduction is not None
    session = onnxruntime.InferenceSession(bundle.network.data)
    size = (bundle.preprocessing.width, bundle.preprocessing.height)
    paths = sorted(folder.iterdir())[:PLAIN_IMAGES]
    started = time.monotonic()
    for path in paths:
        image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB").resize(size)
        pixels = (np.asarray(image, np.float32) - 127) / 128
        (features,) = session.run(None, {"pixels": pixels.transpose(2, 0, 1)[np.newaxis]})
        normalize(features[0] @ bundle.reduction.matrix)
    return len(paths) / (time.monotonic() - started)


LOOPS: dict[str, Callable[[Path], float]] = {
    "bare": lambda folder: threaded_loop(folder, pipeline_infers),
    "openvino": lambda folder: threaded_loop(folder, openvino_infers),
    "plain": plain_loop,
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
            "plain_loop_images_per_s": common.number_from(__file__, "--loop", "plain", folder),
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
