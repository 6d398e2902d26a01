"""How fast models are trained, beside a plain ``fit`` of Keras on the same arrays.

    python benchmarks/training.py [--images 2000] [--epochs 3] [--json]

``head`` trains what follows the network of ``image``, from features of 1,280 numbers, by NT-Xent;
``cnn`` the published network at 64 pixels, by semi-hard triplets, with augmentation.  Both engines
have the same network, loss and batch size, and run in turn; the first epoch, in which TensorFlow
compiles, does not count, nor does validation.  Needs the extra ``train``.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import common
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if TYPE_CHECKING:
    import keras

    from featureid.training.losses import Terms

ROUNDS = 3
SIDE, FEATURES, DIMENSION = 64, 1280, 128
CLASSES, PER_CLASS = 16, 4
Make: TypeAlias = "Callable[[], tuple[keras.Model, list[keras.Layer]]]"


def head() -> tuple[keras.Model, list[keras.Layer]]:
    """Return a head to train, and no layers that vary its inputs."""
    from featureid.training.networks import linear_head, trainable

    start = np.random.default_rng(0).normal(size=(FEATURES, DIMENSION)).astype(np.float32)
    return trainable(linear_head(start)), []


def cnn() -> tuple[keras.Model, list[keras.Layer]]:
    """Return the published network, and the layers that vary its images."""
    import keras

    from featureid.training.networks import augmentation, published_cnn, trainable

    layers = augmentation("published", 0)
    network = published_cnn(SIDE, SIDE, DIMENSION)
    return trainable(network, [keras.layers.Rescaling(1 / 255), *layers]), layers


def plain(make: Make, rows: Any, labels: Any, terms: Terms, epochs: int) -> float:
    """Return examples/s of Keras alone."""
    import keras

    from featureid.training.losses import mean_loss, spread

    model, _ = make()
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: times.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()),
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=mean_loss(terms), metrics=[spread])
    model.fit(rows, labels, CLASSES * PER_CLASS, 1 + epochs, verbose=0, callbacks=[clock])
    return len(rows) / float(np.median(np.diff(times)[1:]))


def ours(make: Make, rows: Any, labels: Any, terms: Terms, epochs: int) -> float:
    """Return examples/s of featureid."""
    from featureid.training.batches import Batches, class_plan
    from featureid.training.fitting import FitOptions, fit

    model, layers = make()
    ends = []

    def validate() -> dict[str, float]:
        ends.append(time.perf_counter())
        return {"auc": 0.5, "spread": 1.0}

    batches = Batches(rows, labels, class_plan(labels, CLASSES, PER_CLASS), 0)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, batches, terms, validate, FitOptions(1 + epochs, 1e-3, 0), Path(folder), layers)
    return len(rows) / float(np.median(np.diff(ends)[1:]))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=2000, help="default: %(default)s")
    parser.add_argument(
        "--epochs", type=int, default=3, help="that are timed; default: %(default)s"
    )
    options = parser.parse_args()

    # Here, so that --help works without TensorFlow.
    from featureid.training.losses import contrastive_terms, semi_hard_terms

    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(options.images // 8), 8)
    count = len(labels)
    features = rng.normal(size=(10 * count, FEATURES)).astype(np.float32)
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    result: dict[str, Any] = {"images": count}
    lines = ["| | plain fit | featureid | ratio |", "|---|---|---|---|"]
    for name, make, rows, terms in (
        ("head", head, features, contrastive_terms(0.05)),
        ("cnn", cnn, pixels, semi_hard_terms(0.2)),
    ):
        own = np.resize(labels, len(rows))
        # Keras trains on float32; a uint8 array would be converted anew in every epoch.
        arrays = rows.astype(np.float32)
        rates = [
            (
                plain(make, arrays, own, terms, options.epochs),
                ours(make, rows, own, terms, options.epochs),
            )
            for _ in range(ROUNDS)
        ]
        ratio = statistics.median(mine / theirs for theirs, mine in rates)
        theirs, mine = (statistics.median(column) for column in zip(*rates, strict=True))
        result[name] = {"plain_per_s": theirs, "featureid_per_s": mine, "ratio": ratio}
        lines.append(f"| {name} | {theirs:.0f}/s | {mine:.0f}/s | {ratio:.2f} |")
    common.print_result(result, options.json, "\n".join(lines))


if __name__ == "__main__":
    main()
