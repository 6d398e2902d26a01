"""The image model compared with a reference, and its speed, in every backend.

    python benchmarks/models.py --oracle FILE.npz [--json]

The file holds ``image`` (n, 224, 224, 3) uint8 RGB and ``features`` (n, 1280) float32: the output
of a PyTorch forward pass of the published weights for the images, scaled to (x - 127) / 128.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

from featureid.models import ModelBundle, resolve_model
from featureid.models.backends.litert import LiteRTBackend
from featureid.models.backends.tensorflow import TensorFlowBackend

_IMAGES = 64
_REPEATS = 3
_BATCHES = (1, 4, 8, 16)


def differences(found: npt.NDArray[Any], reference: npt.NDArray[Any]) -> dict[str, float]:
    """Return the differences of two (n, d) arrays.

    ``max_relative`` is max|a - b| / max|b| over all elements; ``l2_relative`` is the largest
    |a - b| / |b| of a row, in Euclidean norm.
    """
    rows = np.linalg.norm(found - reference, axis=1) / np.linalg.norm(reference, axis=1)
    return {
        "max_relative": float(np.abs(found - reference).max() / np.abs(reference).max()),
        "l2_relative": float(rows.max()),
    }


def best_seconds(run: Callable[[], object]) -> float:
    """Return the seconds of the fastest of several runs, after a warm-up run."""
    run()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def two_threads(bundle: ModelBundle, images: npt.NDArray[np.uint8]) -> float:
    """Return images/s of two threads with a LiteRT backend each."""
    backends = [LiteRTBackend(bundle), LiteRTBackend(bundle)]
    with ThreadPoolExecutor(2) as pool:
        seconds = best_seconds(
            lambda: list(pool.map(lambda backend: backend.embed(images), backends))
        )
    return 2 * len(images) / seconds


def raw_batches(
    bundle: ModelBundle, images: npt.NDArray[np.uint8]
) -> dict[str, dict[str, float | bool]]:
    """Return images/s of LiteRT by batch size, and whether the vectors equal those of batch 1."""
    pixels = bundle.preprocessing.scale(images)
    reference = embed_in_batches(bundle, pixels, 1)[0]
    rows: dict[str, dict[str, float | bool]] = {}
    for size in _BATCHES:
        vectors, seconds = embed_in_batches(bundle, pixels, size)
        rows[str(size)] = {
            "images_per_s": round(len(pixels) / seconds, 1),
            "same_bits_as_batch_1": bool(np.array_equal(vectors, reference)),
        }
    return rows


def embed_in_batches(
    bundle: ModelBundle, pixels: npt.NDArray[np.float32], size: int
) -> tuple[npt.NDArray[np.float32], float]:
    """Return the vectors from LiteRT run on ``size`` images at a time, and its best seconds."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bundle.litert, num_threads=1)
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_signature_runner().get_output_details()["embedding"]["index"]
    interpreter.resize_tensor_input(source, (size, *pixels.shape[1:]))
    interpreter.allocate_tensors()

    def embed() -> npt.NDArray[np.float32]:
        parts = []
        for start in range(0, len(pixels), size):
            interpreter.set_tensor(source, pixels[start : start + size])
            interpreter.invoke()
            parts.append(interpreter.get_tensor(target))
        return np.concatenate(parts)

    return embed(), best_seconds(embed)


def measure(oracle: Path) -> dict[str, Any]:
    """Return all figures by name."""
    bundle = resolve_model("image")
    with np.load(oracle, allow_pickle=False) as arrays:
        images, features = arrays["image"], arrays["features"]
    many = np.resize(images, (_IMAGES, *images.shape[1:]))
    result: dict[str, Any] = {"model": bundle.name, "digest": bundle.digest}
    for kind in (LiteRTBackend, TensorFlowBackend):
        found = kind(bundle, "pooled").embed(images)
        backend = kind(bundle)
        seconds = best_seconds(lambda backend=backend: backend.embed(many))  # type: ignore[misc]
        result[kind.__name__] = {
            **differences(found, features),
            "images_per_s": round(_IMAGES / seconds, 1),
        }
        if kind is LiteRTBackend:
            result["litert_two_threads_images_per_s"] = round(two_threads(bundle, many), 1)
            result["litert_peak_mb"] = round(common.peak_mb(), 1)
            result["litert_by_batch"] = raw_batches(bundle, many)
    return result


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--oracle", type=Path, required=True, help="the .npz file to compare with")
    options = parser.parse_args()
    common.print_result(measure(options.oracle), options.json)


if __name__ == "__main__":
    main()
