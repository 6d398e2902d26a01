"""How often the intervals of `featureid evaluate` hold the truth, on people made up.

    python benchmarks/intervals.py [--people N] [--photos N] [--noise S] [--trials N] [--json]

A population has 3,000 people, each a random vector, and photos that differ from it by ``--noise``.
``--trials`` samples of ``--people`` other people, with ``--photos`` each, are evaluated: of their
intervals of 95 %, so many hold the figure of the population.  ``percentiles`` is what the
percentiles of the bootstrap samples would hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import common
import numpy as np

from featureid.evaluation.bootstrap import percentile_interval, sampled_curves, share_interval
from featureid.evaluation.roc import Roc
from featureid.evaluation.trials import Images, compare_all

_DIMENSION = 16
_POPULATION = 3000
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
    whole = compare_all(photos(_POPULATION, options.photos, options.noise, 0)).exact
    held = {(kind, name): 0 for kind in ("covered", "percentiles") for name in _FIGURES}
    for seed in range(1, options.trials + 1):
        trials = compare_all(photos(options.people, options.photos, options.noise, seed))
        curves = [*sampled_curves(trials, _SAMPLES, coarse=True)]
        for name, figure in _FIGURES.items():
            drawn, truth = [figure(curve) for curve in curves], figure(whole)
            for kind, (low, high) in {
                "covered": share_interval(figure(trials.exact), drawn, options.people),
                "percentiles": percentile_interval(drawn),
            }.items():
                held[kind, name] += low <= truth <= high
    result: dict[str, float] = {
        f"{name}, truth": round(f(whole), 4) for name, f in _FIGURES.items()
    }
    result |= {f"{name}, {kind}": n / options.trials for (kind, name), n in held.items()}
    common.print_result(result, options.json)


if __name__ == "__main__":
    main()
