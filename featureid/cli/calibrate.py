"""``featureid calibrate``: find the threshold for a false-accept rate on one's own images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from featureid.cli import console, verdicts
from featureid.errors import UsageError
from featureid.evaluation.calibration import (
    Calibration,
    Population,
    calibrate,
    manifest_digest,
    stored_cohort,
    write_calibration,
)
from featureid.evaluation.figures import few_classes
from featureid.evaluation.labels import read_labels
from featureid.evaluation.roc import ENOUGH_FALSE_ACCEPTS
from featureid.evaluation.trials import Images, Trials, compare_all
from featureid.labeled import labeled, labels_by_folder, labels_of_keys, of_snapshot
from featureid.masking import bare_uri
from featureid.matching.cohort import Cohort
from featureid.matching.scores import check_comparable
from featureid.storage.reader import Snapshot, open_snapshot


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Find the score from which on two images, or faces, of a snapshot are taken "
        "for one thing or person, and measure how often that is wrong. The result is a file beside "
        "the snapshot's folder, by which compare, search, duplicates and identify judge.",
    )
    add = parser.add_argument
    add("snapshot", metavar="SNAPSHOT", help="output folder, or one snapshot's folder")
    add(
        "--labels",
        metavar="FILE",
        help="table with the columns path and label; default: an image's folder is its class",
    )
    add(
        "--far",
        type=float,
        required=True,
        metavar="RATE",
        help="share of the pairs of different people or classes that may be accepted, such as 1e-3",
    )
    add(
        "--cohort",
        metavar="SNAPSHOT",
        help="faces of a thousand other people, to correct scores by",
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Calibrate; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    snapshot = open_snapshot(arguments.snapshot)
    embedded = of_snapshot(snapshot)
    if arguments.labels is None:
        labels = labels_by_folder(embedded.keys)
    else:
        root = snapshot.manifest.info.locations.root
        labels = labels_of_keys(read_labels(arguments.labels), embedded.keys, root)
    images, failures = labeled(embedded, labels)
    cohort = _cohort(arguments.cohort, snapshot, images) if arguments.cohort else None
    if cohort is not None:
        images = replace(images, corrections=cohort.corrections(images.vectors))
    with console.counting("images", images.embedded) as progress:
        trials = compare_all(images, progress)
    level, percentiles = calibrate(trials, arguments.far)
    calibration = Calibration(
        name=snapshot.manifest.info.snapshot,
        model=snapshot.model,
        population=_population(snapshot, trials, len(failures)),
        levels=(level,),
        different_percentiles=percentiles,
        cohort=None if cohort is None else stored_cohort(cohort),
    )
    place = write_calibration(snapshot, calibration)
    result = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "file": place,
        **verdicts.described(calibration),
        "false_accepts": round(trials.exact.false_accepts(arguments.far), 2),
    }
    console.print_result(result, arguments.json, _lines(result, calibration))
    return console.DONE


def _cohort(place: str, snapshot: Snapshot, images: Images) -> Cohort:
    """Return the cohort of a snapshot.

    Raises:
        MixedModelsError: it is of another model.
        UsageError: it is too small, or one of its images is in the population.
    """
    other = open_snapshot(place)
    check_comparable(snapshot.model, snapshot.folder, other.model, other.folder)
    vectors = np.stack([*of_snapshot(other).vectors.values()])
    known = {vector.tobytes() for vector in images.vectors}
    shared = sum(vector.tobytes() in known for vector in vectors)
    if shared:
        raise UsageError(
            f"{shared} images of the `cohort` {place} are labeled images of {snapshot.folder} as "
            "well; a cohort has other people"
        )
    return Cohort(vectors)


def _population(snapshot: Snapshot, trials: Trials, failed: int) -> Population:
    images, curve = trials.images, trials.exact
    return Population(
        description=f"{len(images.keys)} labeled images of {bare_uri(snapshot.folder)}",
        digest=manifest_digest(snapshot),
        images=len(images.keys),
        failed=failed,
        classes=len(images.names),
        same_pairs=round(curve.same_total),
        different_pairs=round(curve.different_total),
    )


def _lines(result: dict[str, Any], calibration: Calibration) -> Iterator[str]:
    (level,), people = calibration.levels, calibration.population
    assert level.target is not None and level.threshold_interval is not None
    low, high = level.threshold_interval
    yield f"{result['file']}: threshold {level.threshold:.4f} ({low:.4f} to {high:.4f})"
    yield (
        f"of {people.different_pairs} pairs of different people or classes, "
        f"{verdicts.share_text(level.far)} reach it; of {people.same_pairs} of one, "
        f"{verdicts.share_text(level.tar)}"
    )
    if people.failed:
        yield f"{people.failed} of {people.images} images have no feature ID and count as rejected"
    if result["false_accepts"] < ENOUGH_FALSE_ACCEPTS:
        yield (
            f"weak: the rate rests on about {result['false_accepts']:.0f} false accepts; "
            f"{ENOUGH_FALSE_ACCEPTS} are enough"
        )
    yield from few_classes(people.classes, "people or classes")
