"""How often the intervals of `featureid evaluate` hold the truth, on people made up.

    python benchmarks/intervals.py [--people N] [--photos N] [--noise S] [--trials N] [--json]

People are random vectors, and their photos differ from those by ``--noise``.  ``--trials`` samples
of ``--people``, with ``--photos`` each, are evaluated: of their intervals of 95 %, so many hold the
truth, which is the mean figure of eight populations of 3,000 other people, since even one of those
is off by a quarter of an interval.  ``percentiles`` is what the percentiles of the bootstrap
samples would hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import common
import numpy as np

from featureid.evaluation.bootstrap import curve_intervals, percentile_interval, sampled_curves
from featureid.evaluation.roc import Roc
from featureid.evaluation.trials import Images, compare_all

_DIMENSION = 16
_POPULATIONS, _PEOPLE = 8, 3000
_SAMPLES = 200

_FIGURES: dict[str, Callable[[Roc], float]] = {
    "AUC": Roc.auc,
    "EER": Roc.eer,
    "TAR at FAR 1 %": partial(Roc.tar_at, far=0.01),
    "TAR at FAR 0.1 %": partial(Roc.tar_at, far=0.001),
}


def photos(people: int, each: int, noise: float, seed: int) -> Images:
    """Return photos of people."""
    random = np.random.default_rng(seed)
    classes = np.repeat(np.arange(people), each)
    vectors = random.standard_normal((people, _DIMENSION))[classes]
    vectors += noise * random.standard_normal(vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = tuple(map(str, range(people)))
    return Images(tuple(map(str, classes.tolist())), vectors.astype(np.float32), classes, names)


def main() -> None:
    """Draw samples, and print how many intervals hold the truth."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--people", type=int, default=100, metavar="N", help="in a sample; default: %(default)s")
    add("--photos", type=int, default=3, metavar="N", help="of each; default: %(default)s")
    add("--noise", type=float, default=0.8, metavar="S", help="default: %(default)s")
    add("--trials", type=int, default=200, metavar="N", help="samples; default: %(default)s")
    options = parser.parse_args()
    populations = [
        compare_all(photos(_PEOPLE, options.photos, options.noise, 10**6 + seed)).exact
        for seed in range(1, 1 + _POPULATIONS)
    ]
    truths = {
        name: float(np.mean([figure(whole) for whole in populations]))
        for name, figure in _FIGURES.items()
    }
    held = {(kind, name): 0 for kind in ("covered", "percentiles") for name in _FIGURES}
    for seed in range(1, options.trials + 1):
        trials = compare_all(photos(options.people, options.photos, options.noise, seed))
        covered = curve_intervals(trials, _FIGURES, _SAMPLES)
        curves = [*sampled_curves(trials, _SAMPLES, coarse=True)]
        for name, figure in _FIGURES.items():
            plain = percentile_interval([figure(curve) for curve in curves])
            for kind, (low, high) in (("covered", covered[name]), ("percentiles", plain)):
                held[kind, name] += low <= truths[name] <= high
    result = {f"{name}, truth": round(truth, 5) for name, truth in truths.items()}
    result |= {f"{name}, {kind}": n / options.trials for (kind, name), n in held.items()}
    common.print_result(result, options.json)


if __name__ == "__main__":
    main()
