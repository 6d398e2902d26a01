"""The calibrations that come with featureid, measured on the collections that they rest on.

    python benchmarks/calibrations.py [--photos DIR] [--people DIR] [--output DIR] [--json]

``--photos`` holds photos of different things, such as 1,000 of ImageNet.  Each is edited in 22 ways
(benchmarks/edits.py), and every edited photo is compared with all photos, by the models ``image``
and ``image-int8``.  ``--people`` holds a folder per person, as LFW does; all photos are compared
with all others, by ``face`` and ``face-int8`` with each detector that is installed.

The thresholds are given; what is measured is how many pairs reach them, with intervals of 95 % by
bootstrap over photos or people.  With ``--output`` the calibrations are written into a folder:
featureid/evaluation/shipped holds those of LFW's View 1 and of 1,000 photos of ImageNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np

import featureid
from featureid.embedding import Embedder, EmbedSettings
from featureid.evaluation.calibration import (
    Calibration,
    Population,
    different_percentiles,
    encode_calibration,
    level_at,
)
from featureid.evaluation.roc import Roc
from featureid.evaluation.trials import Images, Trials, compare_all
from featureid.images import FaceSettings
from featureid.images.dlib_faces import dlib_is_installed
from featureid.inputs import InputSource, list_source
from featureid.labeled import labeled, labels_by_folder, of_images
from featureid.library import model_info
from featureid.models import resolve_model
from featureid.storage.records import ModelInfo
from featureid.training.edits import EDITS

_COPIES = {"duplicate": 0.9, "review": 0.8, "related": 0.7}
_PEOPLE = {"same": 0.93}
_IMAGE = ("image", "image-int8")
_FACE = ("face", "face-int8")
_DETECTORS = ("dlib", "blazeface")
# Of the pairs of different photos: so many that score highest are all sampled, and of the rest as
# many again.
_SAMPLED = 100_000


def of_photos(folder: Path, model: str) -> Calibration:
    """Return the calibration of a model of whole images on edited photos."""
    photos = [*common.photos(folder)]
    vectors = featureid.embed_images(photos, model)
    rows = np.arange(len(photos))
    scores = np.stack(
        [
            featureid.embed_images([edit(photo) for photo in photos], model) @ vectors.T
            for edit in EDITS.values()
        ]
    )
    own = np.eye(len(photos), dtype=bool)
    same, different = scores[:, own].ravel(), scores[:, ~own].ravel()
    exact = Roc.of(
        np.concatenate([same, different]).astype(np.float64),
        np.arange(len(same) + len(different)) < len(same),
    )
    pairs = np.tile(np.argwhere(~own), (len(EDITS), 1))
    order = np.argsort(-different)
    rest = np.random.default_rng(0).choice(order[_SAMPLED:], _SAMPLED, replace=False)
    drawn = np.concatenate([order[:_SAMPLED], rest])
    shares = np.repeat([1.0, (len(different) - _SAMPLED) / _SAMPLED], _SAMPLED)
    keys = tuple(map(str, rows.tolist()))
    trials = Trials.of(
        images=Images(keys, vectors, rows, keys),
        rows=np.concatenate([np.tile(np.stack([rows, rows], 1), (len(EDITS), 1)), pairs[drawn]]),
        scores=np.concatenate([same, different[drawn]]).astype(np.float64),
        same=np.arange(len(same) + len(drawn)) < len(same),
        shares=np.concatenate([np.ones(len(same)), shares]),
        exact=exact,
    )
    population = Population(
        description=f"{len(photos)} photos of different things (ImageNet), each edited in "
        f"{len(EDITS)} ways and compared with all",
        digest="",
        images=len(photos) * (1 + len(EDITS)),
        failed=0,
        classes=len(photos),
        same_pairs=len(same),
        different_pairs=len(different),
    )
    name = f"{model} on ImageNet"
    return _calibration(name, model_info(model), population, trials, _COPIES)


def of_people(folder: Path, model: str, detector: str) -> Calibration:
    """Return the calibration of a model of faces on photos of people."""
    embedder = Embedder(
        resolve_model(model), EmbedSettings(faces=FaceSettings("largest", detector=detector))
    )
    try:
        # Files beside the folders of people are not photos of them.
        source = InputSource(str(folder), strip_prefix=str(folder))
        listed = [item for item in list_source(source) if "/" in item.key]
        embedded = of_images(listed, embedder)
        info = embedder.info
    finally:
        embedder.close()
    images, failures = labeled(embedded, labels_by_folder(embedded.keys))
    trials = compare_all(images)
    population = Population(
        description=f"the {len(images.keys)} photos of View 1 of Labeled Faces in the Wild",
        digest="",
        images=len(images.keys),
        failed=len(failures),
        classes=len(images.names),
        same_pairs=round(trials.exact.same_total),
        different_pairs=round(trials.exact.different_total),
    )
    name = f"{model} with {detector} on LFW"
    return _calibration(name, info, population, trials, _PEOPLE)


def _calibration(
    name: str,
    model: ModelInfo,
    population: Population,
    trials: Trials,
    thresholds: dict[str, float],
) -> Calibration:
    levels = tuple(level_at(trials, *item) for item in thresholds.items())
    return Calibration(name, model, population, levels, different_percentiles(trials.exact))


def measured(options: Any) -> Iterator[Calibration]:
    """Yield the calibrations that were asked for."""
    if options.photos:
        yield from (of_photos(options.photos, model) for model in _IMAGE)
    if options.people:
        detectors: Sequence[str] = [d for d in _DETECTORS if d != "dlib" or dlib_is_installed()]
        for model in _FACE:
            yield from (of_people(options.people, model, detector) for detector in detectors)


def main() -> None:
    """Measure what was asked for."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--photos", type=Path, metavar="DIR", help="photos of different things")
    add("--people", type=Path, metavar="DIR", help="folder with a folder per person")
    add("--output", type=Path, metavar="DIR", help="where to write the calibrations")
    options = parser.parse_args()
    if not (options.photos or options.people):
        parser.error("name --photos or --people")
    result: dict[str, Any] = {}
    for calibration in measured(options):
        for level in calibration.levels:
            figures = {"far": level.far.value, "far_interval": level.far.interval}
            figures |= {"tar": level.tar.value, "tar_interval": level.tar.interval}
            result[f"{calibration.name}, {level.name} {level.threshold}"] = figures
        result[f"{calibration.name}, different"] = calibration.different_percentiles
        if options.output:
            name = calibration.name.replace(" ", "-").lower()
            (options.output / f"{name}.json").write_bytes(encode_calibration(calibration))
    common.print_result(result, options.json)


if __name__ == "__main__":
    main()
