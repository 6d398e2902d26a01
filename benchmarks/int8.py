"""What the known models lose with 8-bit integers, on collections of your own.

    python benchmarks/int8.py [--photos DIR] [--products DIR] [--people DIR [--pairs FILE]...]
        [--json]

``--photos`` holds photos of different things.  Each is edited in several ways, and every edited
photo is compared with all photos: ``recall`` is how many of them are more similar to their own
photo than a threshold that one in 1,000 of the pairs of different photos reaches, for easy and for
hard edits.  Recall by edit, and how many pairs of different photos there are, is printed for some
fixed cosines, too.

``--products`` holds a folder for each of several kinds: ``precision at 1`` is how many photos have
one of their own kind as nearest neighbor.

``--people`` holds a folder per person, as LFW does: ``accepted`` is how many pairs of photos of one
person exceed a threshold that 1 % or 0.1 % of the pairs of different people reach, among all pairs.
With ``--pairs``, files like LFW's ``pairsDevTest.txt``, only their photos are taken, and the rates
are given for their pairs, too.  Pairs of which a photo has no face count as rejected.  Faces are
the largest of their photo.

A loss is the figure of the float32 model minus that of the 8-bit one.  Its interval of 95 % is from
1,000 bootstrap samples of photos, or of people, the same ones for both models.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt
from faces import listed_pairs
from PIL import Image

from featureid.embedding import normalize
from featureid.errors import ImageError
from featureid.face_crops import finder_for
from featureid.images import FaceSettings
from featureid.images.resize import resize_image
from featureid.model_input import load_image
from featureid.models import open_backend, resolve_model
from featureid.parallel import available_cpus
from featureid.training.edits import EDITS

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]
Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]
# A figure of a sample: from the weight of every unit, or None for all units once.
Figure = Callable[[Floats | None], float]

_IMAGE = ("image", "image-int8")
_FACE = ("face", "face-int8")
_SAMPLES = 1000
_FPR = 0.001
_COSINES = (0.9, 0.82, 0.8, 0.75, 0.7)
_FARS = (0.01, 0.001)
# Of the highest scores of different images, so many times as a rate needs are kept for the samples.
_SPARE = 3
_KEPT = 10_000
_MISSED = -2.0  # the score of a pair without a vector, below any cosine


_LEVELS = {
    "easy": ("jpeg 50", "half size", "crop 90 %", "rotate 5", "flip", "dark", "bar"),
    "hard": ("jpeg 10", "quarter size", "crop 70 %", "rotate 15", "rotate 90", "gray"),
}


@dataclass(frozen=True)
class Trial:
    """Scores of pairs, and what is resampled: the two units of a pair, which may be the same.

    Attributes:
        same: scores of the pairs that should be accepted, (n,).
        same_units: the unit of each, (n,).
        other: the highest scores of the pairs that should not, descending, (m,).
        other_units: the two units of each, (m, 2).
        others: the number of all such pairs.
    """

    same: Floats
    same_units: Indices
    other: Floats
    other_units: Indices
    others: int

    @classmethod
    def of(
        cls, same: Floats, same_units: Indices, other: Floats, other_units: Indices, far: float
    ) -> Trial:
        """Return a trial for false-accept rates up to ``far``."""
        kept = min(len(other), max(_KEPT, math.ceil(far * len(other) * _SPARE)))
        order = np.argsort(-other)[:kept]
        return cls(same, same_units, other[order], other_units[order], len(other))

    def accepted(self, far: float, weights: Floats | None = None) -> float:
        """Return the share of pairs accepted where a share ``far`` of the others is."""
        if weights is None:
            return float((self.same > self.other[int(far * self.others)]).mean())
        shares = weights[self.other_units].prod(1)
        complete = len(self.other) == self.others
        total = shares.sum() if complete else self.others * (1 - 1 / len(weights))
        last = np.searchsorted(np.cumsum(shares), far * total, "right")
        threshold = self.other[min(int(last), len(self.other) - 1)]
        return float(np.average(self.same > threshold, weights=weights[self.same_units]))


def compared(exact: Figure, rounded: Figure, units: int) -> dict[str, Any]:
    """Return a figure of both models, and its loss with an interval; so many are resampled."""
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(_SAMPLES):
        weights = np.bincount(rng.integers(0, units, units), minlength=units).astype(np.float64)
        losses.append(exact(weights) - rounded(weights))
    return {
        "float32": round(exact(None), 5),
        "int8": round(rounded(None), 5),
        "loss": round(exact(None) - rounded(None), 5),
        "interval": [round(float(end), 5) for end in np.percentile(losses, [2.5, 97.5])],
    }


def embedded(
    models: Sequence[str],
    paths: Sequence[Path],
    open_images: Callable[[], Callable[[Path], Iterable[Pixels]]],
) -> list[list[Vectors]]:
    """Return for each model the unit vectors (n, 128) of the images that are made of each file.

    Args:
        models: names.
        paths: the files.
        open_images: called once per thread; returns what makes images of a file.
    """
    backends = [open_backend(resolve_model(model)) for model in models]
    local = threading.local()

    def embed(path: Path) -> list[Vectors]:
        if not hasattr(local, "images"):
            local.images = open_images()
        pixels = [*local.images(path)]
        return [
            np.array([normalize(backend.embed(one[np.newaxis])[0]) for one in pixels])
            for backend in backends
        ]

    with ThreadPoolExecutor(available_cpus()) as pool:
        return [list(found) for found in zip(*pool.map(embed, paths), strict=True)]


def photos(folder: Path) -> dict[str, Any]:
    """Return the figures of ``--photos``."""
    paths = image_files(folder)
    edits = [EDITS[name] for name in _names()]
    preprocessing = resolve_model("image").preprocessing
    height, width = preprocessing.height, preprocessing.width

    def variants(path: Path) -> Iterator[Pixels]:
        with Image.open(path) as file:
            photo = file.convert("RGB")
        for image in (photo, *(edit(photo) for edit in edits)):
            yield resize_image(np.array(image), height, width, preprocessing.resize)

    numbers = np.arange(len(paths))
    apart = ~np.eye(len(paths), dtype=bool)
    units = np.tile(np.argwhere(apart), (len(edits), 1))
    result: dict[str, Any] = {"photos": len(paths), "pairs": len(units)}
    trials = []
    for model, found in zip(_IMAGE, embedded(_IMAGE, paths, lambda: variants), strict=True):
        vectors = np.stack(found)
        scores = np.stack([one @ vectors[:, 0].T for one in vectors[:, 1:].swapaxes(0, 1)])
        same, other = scores[:, numbers, numbers], scores[:, apart].ravel()
        trials.append(Trial.of(same, numbers, other, units, _FPR))
        for cosine in _COSINES:
            result[f"{model}, pairs from {cosine}"] = int((other >= cosine).sum())
            result[f"{model}, recall at {cosine}"] = {
                name: round(float((of_edit >= cosine).mean()), 3)
                for name, of_edit in zip(_names(), same, strict=True)
            }
    first = 0
    for level, edits_of_level in _LEVELS.items():
        chosen = slice(first, first := first + len(edits_of_level))
        units_of_level = np.tile(numbers, len(edits_of_level))
        exact, rounded = (
            partial(
                replace(trial, same=trial.same[chosen].ravel(), same_units=units_of_level).accepted,
                _FPR,
            )
            for trial in trials
        )
        result[f"recall, {level} edits"] = compared(exact, rounded, len(paths))
    return result


def products(folder: Path) -> dict[str, Any]:
    """Return the figures of ``--products``."""
    paths = image_files(folder)
    preprocessing = resolve_model("image").preprocessing

    def images(path: Path) -> Iterator[Pixels]:
        yield from (one.pixels for one in load_image(str(path), preprocessing))

    kinds = np.array([path.parent.name for path in paths])
    right = []
    for found in embedded(_IMAGE, paths, lambda: images):
        vectors = np.concatenate(found)
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, _MISSED)
        right.append(kinds[scores.argmax(1)] == kinds)
    exact, rounded = (partial(_average, one) for one in right)
    return {"photos": len(paths), "precision at 1": compared(exact, rounded, len(paths))}


def people(folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Return the figures of ``--people``."""
    paths = image_files(folder)
    if files:
        paths = [paths[index] for index in np.unique(listed_pairs(files, paths))]
    preprocessing = resolve_model("face").preprocessing

    def open_faces() -> Callable[[Path], Iterator[Pixels]]:
        finder = finder_for(preprocessing, FaceSettings("largest"))

        def faces(path: Path) -> Iterator[Pixels]:
            with contextlib.suppress(ImageError):
                yield from (
                    one.pixels for one in load_image(str(path), preprocessing, finder=finder)
                )

        return faces

    found = embedded(_FACE, paths, open_faces)
    missed = np.array([not len(one) for one in found[0]])
    names, persons = np.unique([path.parent.name for path in paths], return_inverse=True)
    result: dict[str, Any] = {
        "photos": len(paths),
        "people": len(names),
        "without a face": int(missed.sum()),
    }
    matrices = []
    for by_photo in found:
        vectors = np.stack([one[0] if len(one) else np.zeros(128, np.float32) for one in by_photo])
        scores = vectors @ vectors.T
        scores[missed] = scores[:, missed] = _MISSED
        matrices.append(scores)
    every = np.triu_indices(len(paths), 1)
    for kind, pairs in {
        "all pairs": every,
        **({"listed pairs": listed_pairs(files, paths)} if files else {}),
    }.items():
        units = persons[np.stack(pairs, 1)]
        same = units[:, 0] == units[:, 1]
        trials = []
        for matrix in matrices:
            scores = matrix[pairs]
            trials.append(
                Trial.of(scores[same], units[same, 0], scores[~same], units[~same], max(_FARS))
            )
        result[kind] = [int(same.sum()), int((~same).sum())]
        for far in _FARS:
            exact, rounded = (partial(trial.accepted, far) for trial in trials)
            result[f"{kind}, accepted at {far:.1%}"] = compared(exact, rounded, len(names))
    return result


def _average(values: Floats, weights: Floats | None) -> float:
    return float(np.average(values, weights=weights))


def _names() -> list[str]:
    return [name for level in _LEVELS.values() for name in level]


def image_files(folder: Path) -> list[Path]:
    """Return the images below a folder in a fixed, mixed order."""
    found = [
        path for path in sorted(folder.rglob("*")) if path.suffix.lower() in common.IMAGE_SUFFIXES
    ]
    random.Random(0).shuffle(found)
    return found


def main() -> None:
    """Measure what was asked for."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--photos", type=Path, help="folder of photos of different things")
    add("--products", type=Path, help="folder with a folder per kind")
    add("--people", type=Path, help="folder with a folder per person")
    add("--pairs", type=Path, action="append", default=[], help="pairs of --people; default: all")
    options = parser.parse_args()
    result = {}
    if options.photos:
        result["photos"] = photos(options.photos)
    if options.products:
        result["products"] = products(options.products)
    if options.people:
        result["people"] = people(options.people, options.pairs)
    if not result:
        parser.error("name at least one of --photos, --products and --people")
    lines = [
        f"{name:<10}{figure:<34}{value}"
        for name, figures in result.items()
        for figure, value in figures.items()
    ]
    common.print_result(result, options.json, "\n".join(lines))


if __name__ == "__main__":
    main()
