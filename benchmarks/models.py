"""The known models in ONNX Runtime and other engines: speed, memory, start-up, and exactness.

    python benchmarks/models.py [--tflite NAME=FILE ...] [--oracle NAME=FILE ...] [--json]

Every engine runs in a process of its own, on one thread and on two, in turn with the others, so
that changes in the machine's speed affect all.  OpenVINO takes part if it is installed, and LiteRT
for a model whose network is given as a ``.tflite`` file.  A time is CPU time per image, of the
network alone.  ``first_s`` is loading the network and running it once; ``mb_batch_8`` is what the
process grew by, from before the engine was imported, at its peak with batches of up to 8.

An oracle is an ``.npz`` file of images (n, height, width, 3) uint8 RGB and of what a reference
computed for them: ``image`` and ``features`` (n, 1280), by PyTorch, for the model ``image``;
``chip`` and ``embedding`` (n, 128), by dlib, for ``face``.  ``cosine`` is the lowest of an image,
which is what matters for vectors of 8-bit integers; their features have another length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

from featureid.models import ModelBundle, open_backend, open_backends, resolve_model

MODELS = ("image", "image-int8", "face", "face-int8")
BATCHES = (1, 8)
ROUNDS = 5
PROCESSES = 3
_ORACLES = {"image": ("image", "features", "pooled"), "face": ("chip", "embedding", "embedding")}

Array = npt.NDArray[np.float32 | np.uint8]
Run = Callable[[Array], object]


def onnx_engine(path: str) -> Callable[[], Run]:
    """Import ONNX Runtime; return a function that gives a session, the same for every thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions: list[Any] = []

    def load() -> Run:
        if not sessions:
            sessions.append(onnxruntime.InferenceSession(path, options))
        return lambda pixels: sessions[0].run(None, {"pixels": pixels})

    return load


def litert_engine(path: str) -> Callable[[], Run]:
    """Import LiteRT; return a function that gives an interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    def load() -> Run:
        interpreter = Interpreter(model_path=path, num_threads=1)
        source = interpreter.get_input_details()[0]["index"]
        rows = 0

        def run(pixels: Array) -> None:
            nonlocal rows
            if rows != len(pixels):
                rows = len(pixels)
                interpreter.resize_tensor_input(source, pixels.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(source, pixels)
            interpreter.invoke()

        return run

    return load


def openvino_engine(path: str) -> Callable[[], Run]:
    """Import OpenVINO; return a function that gives a compiled model."""
    import openvino

    core = openvino.Core()
    # Pinned, all models would run on the same core.
    options = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}

    def load() -> Run:
        model = core.compile_model(core.read_model(path), "CPU", options)
        return lambda pixels: model(pixels)

    return load


# Module, function.
ENGINES = {
    "onnx": ("onnxruntime", onnx_engine),
    "litert": ("ai_edge_litert", litert_engine),
    "openvino": ("openvino", openvino_engine),
}


def measure_engine(engine: str, path: str, dtype: str, shape: tuple[int, ...]) -> dict[str, float]:
    """Return the figures of one engine in this process, for 8 images of a shape."""
    _, import_engine = ENGINES[engine]
    noise = np.random.default_rng(0).normal(0, 50, (8, *shape))
    pixels = np.clip(noise + 127, 0, 255).astype(np.uint8)
    if dtype == "float32":
        pixels = (noise / 50).astype(np.float32)
    before, started = common.peak_mb(), time.perf_counter()
    load = import_engine(path)
    imported = time.perf_counter()
    run = load()
    run(pixels[:1])
    result = {"import_s": imported - started, "first_s": time.perf_counter() - imported}
    result["mb_batch_1"] = common.peak_mb() - before
    times: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        for size in BATCHES:
            run(pixels[:size])
            begun = time.thread_time()
            for start in range(0, 8, size):
                run(pixels[start : start + size])
            times[size].append(time.thread_time() - begun)
    for size in BATCHES:
        result[f"cpu_ms_batch_{size}"] = statistics.median(times[size]) / 8 * 1e3
    result["mb_batch_8"] = common.peak_mb() - before
    runs = [run, load()]
    for name, count in (("one_thread", 1), ("two_threads", 2)):
        result[f"{name}_images_per_s"] = _rate(runs[:count], pixels)
    return result


def _rate(runs: list[Run], pixels: Array) -> float:
    """Return images/s of as many threads, one image at a time."""

    def work(run: Run) -> None:
        for row in range(8):
            run(pixels[row : row + 1])

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(work, runs))
        started = time.perf_counter()
        for _ in range(ROUNDS):
            list(pool.map(work, runs))
        return ROUNDS * 8 * len(runs) / (time.perf_counter() - started)


def compare_engines(bundle: ModelBundle, tflite: str | None) -> dict[str, Any]:
    """Return the figures of every engine, or why it has none; in processes of their own."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(bundle.network.data)
        file.flush()
        paths = {"onnx": file.name, "openvino": file.name, "litert": tflite}
        result: dict[str, Any] = {}
        rounds: dict[str, list[dict[str, float]]] = {}
        for engine, path in paths.items():
            if find_spec(ENGINES[engine][0]) is None:
                result[engine] = "not installed"
            elif path is None:
                result[engine] = "no .tflite file given"
            else:
                rounds[engine] = []
        for _ in range(PROCESSES):
            for engine, found in rounds.items():
                arguments = [engine, paths[engine], *_input(bundle, engine)]
                command = [sys.executable, __file__, "--engine", *map(str, arguments)]
                printed = subprocess.check_output(command, stderr=subprocess.DEVNULL)
                found.append(json.loads(printed))
    return result | {engine: common.medians(found) for engine, found in rounds.items()}


def _input(bundle: ModelBundle, engine: str) -> tuple[object, ...]:
    """Return dtype and shape of one image; a ``.tflite`` network takes float32 by rows."""
    source, size = bundle.network.input, bundle.preprocessing
    if engine == "litert":
        return ("float32", size.height, size.width, 3)
    if source.layout == "nhwc":
        return (source.dtype, size.height, size.width, 3)
    return (source.dtype, 3, size.height, size.width)


def differences(found: npt.NDArray[Any], reference: npt.NDArray[Any]) -> dict[str, float]:
    """Return the differences of two (n, d) arrays.

    ``max_relative`` is max|a - b| / max|b| over all elements; ``l2_relative`` is the largest
    |a - b| / |b| of a row, in Euclidean norm; ``cosine`` is the lowest of a row.
    """
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(reference, axis=1)
    rows = np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)
    return {
        "max_relative": float(np.abs(found - reference).max() / np.abs(reference).max()),
        "l2_relative": float(rows.max()),
        "cosine": float(((found * reference).sum(1) / lengths).min()),
    }


def exactness(bundle: ModelBundle, oracle: Path) -> dict[str, float]:
    """Return how far a model is from a reference."""
    source, target, output = _ORACLES[bundle.name.removesuffix("-int8")]
    with np.load(oracle, allow_pickle=False) as arrays:
        images, reference = arrays[source], arrays[target]
    return differences(open_backend(bundle, output=output).embed(images), reference)  # type: ignore[arg-type]


def same_bits(bundle: ModelBundle) -> bool:
    """Return whether batches of 1, 3 and 8, and two threads, give the same bits."""
    size = bundle.preprocessing
    shape = (16, size.height, size.width, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    backends = open_backends(bundle, None, 2)
    wanted = backends[0].embed(images)
    found = [
        np.concatenate([backends[0].embed(images[i : i + rows]) for i in range(0, 16, rows)])
        for rows in (1, 3, 8)
    ]
    with ThreadPoolExecutor(2) as pool:
        found += pool.map(lambda backend: backend.embed(images), backends)
    return all(np.array_equal(vectors, wanted) for vectors in found)


def measure(tflite: dict[str, str], oracles: dict[str, str]) -> dict[str, Any]:
    """Return all figures by model."""
    result: dict[str, Any] = {}
    for name in MODELS:
        bundle = resolve_model(name)
        result[name] = {
            "digest": bundle.digest,
            "same_bits": same_bits(bundle),
            **(exactness(bundle, Path(oracles[name])) if name in oracles else {}),
            "engines": compare_engines(bundle, tflite.get(name)),
        }
    return result


def table(result: dict[str, Any]) -> str:
    """Return the figures as text, one line per model and engine."""
    lines = []
    for name, model in result.items():
        facts = {key: value for key, value in model.items() if key != "engines"}
        lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
        for engine, found in model["engines"].items():
            if isinstance(found, str):
                lines.append(f"  {engine:<10}{found}")
                continue
            figures = (f"{key} {value:.3g}" for key, value in found.items())
            lines.append(f"  {engine:<10}" + ", ".join(figures))
    return "\n".join(lines)


def _named(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if name not in MODELS or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE with a name of {MODELS}")
    return name, file


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--tflite", type=_named, action="append", default=[], metavar="NAME=FILE")
    add("--oracle", type=_named, action="append", default=[], metavar="NAME=FILE")
    add("--engine", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        engine, path, dtype, *shape = options.engine
        print(json.dumps(measure_engine(engine, path, dtype, tuple(map(int, shape)))))
        return
    result = measure(dict(options.tflite), dict(options.oracle))
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
