"""Calibrations: thresholds, how often they are wrong, and whose images that was measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources

import msgspec
import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, MixedModelsError, UsageError
from featureid.evaluation.bootstrap import (
    SAMPLES,
    SEED,
    Interval,
    percentile_interval,
    sampled_curves,
    share_interval,
)
from featureid.evaluation.roc import ENOUGH_FALSE_ACCEPTS, LEAST_FALSE_ACCEPTS, Roc
from featureid.evaluation.trials import Trials
from featureid.matching.cohort import Cohort
from featureid.storage import files
from featureid.storage.manifest import decode_manifest, encode_manifest
from featureid.storage.reader import Snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.snapshot import (
    CALIBRATION_SUFFIX,
    calibration_place,
    is_snapshot_id,
    read_sequence,
)
from featureid.stored_json import (
    Size,
)

Floats = npt.NDArray[np.float64]

FORMAT = "featureid-calibration"
VERSION = 1
#: The verdict on a score that reaches no level.
DIFFERENT = "different"
SAME = "same"
_PERCENTILES = (50, 99)


@dataclass(frozen=True, slots=True)
class Share:
    """A measured share of pairs.

    Attributes:
        value: of all pairs.
        interval: of 95 %; that of a share of 0 ends at 3 divided by the number of pairs.
    """

    value: float
    interval: Interval

    def __post_init__(self) -> None:
        low, high = self.interval
        if not (0 <= self.value <= 1 and 0 <= low <= high <= 1):
            raise CorruptFileError(f"{self.value} ({low} to {high}) is not a share of pairs")


@dataclass(frozen=True, slots=True)
class Level:
    """A threshold, and what a score that reaches it means.

    Attributes:
        name: the verdict, ``same`` or ``duplicate``.
        threshold: the lowest score; a corrected one, if the calibration has a cohort.
        far: how many of all pairs of different people or images reach it.
        tar: how many of all pairs of one do.
        target: the false-accept rate that the threshold was chosen for; None for a given one.
        threshold_interval: the thresholds that 95 % of the samples would have had; None likewise.
    """

    name: str
    threshold: float
    far: Share
    tar: Share
    target: float | None = None
    threshold_interval: Interval | None = None

    def __post_init__(self) -> None:
        # Or a probability would be 0 / 0.
        if self.far.value == 1 or self.far.interval[1] == 0:
            raise CorruptFileError(
                f"a share of {self.far.value} of the pairs of different people or images reaches "
                f"{self.threshold}, of which no verdict follows"
            )


@dataclass(frozen=True, slots=True)
class Population:
    """Whose images a calibration rests on.

    Attributes:
        description: in words.
        digest: SHA-256 of the manifest of the snapshot; "" for a shipped calibration.
        images: number of labeled images, those without a feature ID included.
        failed: number of those without.
        classes: number of people or classes.
        same_pairs: number of pairs of one person or class.
        different_pairs: number of pairs of two.
    """

    description: str
    digest: str
    images: Size
    failed: Size
    classes: Size
    same_pairs: Size
    different_pairs: Size


@dataclass(frozen=True, slots=True)
class _StoredCohort:
    """A cohort, with float32 vectors in little-endian order, and their SHA-256."""

    sha256: str
    images: Size
    vectors: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What scores of a model mean for a population.

    Attributes:
        name: of the calibration.
        model: what computed the vectors.
        population: whose images it was measured on.
        levels: thresholds, highest first.
        different_percentiles: scores of pairs of different people or images: percentile -> score.
        seed: of the samples that the intervals are made of.
        samples: their number.
        cohort: what scores are corrected by; None for none.
    """

    name: str
    model: ModelInfo
    population: Population
    levels: tuple[Level, ...]
    different_percentiles: dict[str, float]
    seed: Size = SEED
    samples: Size = SAMPLES
    cohort: _StoredCohort | None = None

    def __post_init__(self) -> None:
        thresholds = [level.threshold for level in self.levels]
        if not thresholds or thresholds != sorted(thresholds, reverse=True):
            raise CorruptFileError(f"its thresholds are {thresholds}, not one or more, descending")
        missing = {str(percent) for percent in _PERCENTILES} - set(self.different_percentiles)
        if missing:
            raise CorruptFileError(f"its percentiles lack {', '.join(sorted(missing))}")
        self.opened_cohort()

    def verdict(self, score: float) -> str:
        """Return the name of the highest level that a score reaches, or ``different``."""
        return next((lvl.name for lvl in self.levels if score >= lvl.threshold), DIFFERENT)

    def level(self, name: str) -> Level | None:
        """Return a level by its name; None if there is none."""
        return next((level for level in self.levels if level.name == name), None)

    def fits(self, model: ModelInfo) -> bool:
        """Return whether this is a calibration of a model and preprocessing."""
        digests = self.model.digest, self.model.preprocessing_digest
        return digests == (model.digest, model.preprocessing_digest)

    def check_fits(self, model: ModelInfo, name: str) -> None:
        """Check that this is a calibration of a model.

        Args:
            model: of the vectors that are compared.
            name: whose they are, for the message.

        Raises:
            MixedModelsError: it is of another model or preprocessing.
        """
        for part, what in (("digest", "model"), ("preprocessing_digest", "preprocessing")):
            here, there = getattr(self.model, part), getattr(model, part)
            if here != there:
                raise MixedModelsError(
                    f"the calibration {self.name!r} is of another {what} than {name}: "
                    f"{self.model.name} {here}, not {model.name} {there}; calibrate that model"
                )

    def opened_cohort(self) -> Cohort | None:
        """Return the cohort, or None."""
        if self.cohort is None:
            return None
        data, shape = self.cohort.vectors, (self.cohort.images, self.model.dimension)
        if len(data) != 4 * shape[0] * shape[1]:
            raise CorruptFileError(
                f"its cohort has {len(data)} bytes, not those of {shape[0]} vectors of {shape[1]} "
                "float32 numbers"
            )
        return Cohort(np.frombuffer(data, "<f4").astype(np.float32).reshape(shape))

    def describe(self) -> str:
        """Return whose images the figures rest on, in words."""
        people = self.population
        corrected = f", scores corrected by {self.cohort.images} others" if self.cohort else ""
        return (
            f"{self.name}: measured on {people.description}, {people.classes} people or classes, "
            f"{people.different_pairs} pairs of different ones{corrected}"
        )


def calibrate(
    trials: Trials, far: float, samples: int = SAMPLES, seed: int = SEED
) -> tuple[Level, dict[str, float]]:
    """Return the level at a false-accept rate, and the percentiles of different pairs.

    Args:
        trials: all pairs.
        far: the false-accept rate.
        samples: how many samples of the classes an interval is made of.
        seed: of the random numbers.

    Raises:
        UsageError: the rate is not between 0 and 1, or there are too few different pairs for it.
    """
    curve = trials.exact
    if not 0 < far < 1:
        raise UsageError(f"`far` is {far}; give a share of pairs between 0 and 1, such as 0.001")
    if not curve.carries(far):
        raise UsageError(
            f"`far` is {far:g}, of which {round(curve.different_total)} pairs of different people "
            f"or classes have {curve.false_accepts(far):.2g} false accepts; {LEAST_FALSE_ACCEPTS} "
            f"are the least, {ENOUGH_FALSE_ACCEPTS} are enough: give a higher rate, or label more "
            "images"
        )
    threshold = curve.threshold_at(far)
    if not np.isfinite(threshold):
        raise UsageError(
            f"`far` is {far:g}, but a larger share of the pairs of different people or classes has "
            "the highest score; are some images labeled twice, under two names?"
        )
    level = level_at(trials, SAME, threshold, samples, seed)
    thresholds = [drawn.threshold_at(far) for drawn in sampled_curves(trials, samples, seed)]
    finite = [value for value in thresholds if np.isfinite(value)] or [threshold]
    chosen = replace(level, target=far, threshold_interval=percentile_interval(finite))
    return chosen, different_percentiles(curve)


def level_at(
    trials: Trials, name: str, threshold: float, samples: int = SAMPLES, seed: int = SEED
) -> Level:
    """Return the level of a given threshold."""
    drawn = [curve.rates_at(threshold) for curve in sampled_curves(trials, samples, seed)]
    far, tar = trials.exact.rates_at(threshold)
    fars, tars = zip(*drawn, strict=True)
    different = share_interval(far, fars, trials.exact.different_total)
    same = share_interval(tar, tars, len(trials.images.names))
    return Level(name, threshold, Share(far, different), Share(tar, same))


def different_percentiles(curve: Roc) -> dict[str, float]:
    """Return scores that so many percent of the different pairs do not exceed."""
    return {
        str(percent): round(
            float(min(curve.threshold_at(1 - percent / 100), curve.thresholds[0])), 4
        )
        for percent in _PERCENTILES
    }


def manifest_digest(snapshot: Snapshot) -> str:
    """Return the SHA-256 of the manifest of a snapshot, which has those of all its files."""
    return hashlib.sha256(snapshot.manifest.to_json()).hexdigest()


def stored_cohort(cohort: Cohort) -> _StoredCohort:
    """Return a cohort as a calibration holds it."""
    data = cohort.vectors.astype("<f4").tobytes()
    return _StoredCohort(hashlib.sha256(data).hexdigest(), len(cohort.vectors), data)


def encode_calibration(calibration: Calibration) -> bytes:
    """Return the file of a calibration: JSON with its digest."""
    fields = msgspec.to_builtins(calibration)
    return encode_manifest({"format": FORMAT, "version": VERSION, **fields})


def decode_calibration(data: bytes, source: str) -> Calibration:
    """Return the calibration in a file.

    Args:
        data: the file.
        source: its name, for messages.

    Raises:
        CorruptFileError: it is not a calibration, or was changed after it was written.
        NewerVersionError: it is of a later version.
    """
    return decode_manifest(data, source, Calibration, FORMAT, VERSION)


def write_calibration(snapshot: Snapshot, calibration: Calibration) -> str:
    """Write a calibration beside the folder of its snapshot; return its place.

    Raises:
        StorageError: it cannot be written.
    """
    place = calibration_place(snapshot.folder)
    files.write_atomic(place, [encode_calibration(calibration)])
    return place


def read_calibration(place: str) -> Calibration:
    """Return the calibration in a file, or that beside a snapshot's folder.

    Raises:
        CorruptFileError: it is damaged.
        StorageError: it cannot be read.
    """
    return decode_calibration(files.read_bytes(place), place)


def find_calibration(
    model: ModelInfo, given: str | None, *snapshots: Snapshot, plain: str = ""
) -> Calibration | None:
    """Return the calibration to judge scores by.

    Args:
        model: of the vectors.
        given: the file that a user has named; None for the newest in the output folders of the
            snapshots that is of this model, or else a shipped one.
        snapshots: what is compared.
        plain: what cannot correct scores by a cohort, so that calibrations with one do not count;
            "" if scores can be corrected.

    Returns:
        The calibration; None if none is known for the model.

    Raises:
        MixedModelsError: the given one is of another model.
        UsageError: it has a cohort, and scores cannot be corrected.
        CorruptFileError: it is damaged.
        StorageError: it cannot be read.
    """
    if given is not None:
        calibration = read_calibration(given)
        calibration.check_fits(model, "what is compared")
        if calibration.cohort is not None and plain:
            raise UsageError(
                f"the `calibration` {given} corrects scores by a cohort, and {plain} cannot; leave "
                "one of them out, or calibrate without a cohort"
            )
        return calibration
    known = [
        *(_own_calibrations(snapshot) for snapshot in snapshots),
        shipped_calibrations(),
    ]
    every = (one for some in known for one in some if one.fits(model))
    return next((one for one in every if not plain or one.cohort is None), None)


def _own_calibrations(snapshot: Snapshot) -> Iterator[Calibration]:
    """Yield the calibrations of a snapshot's output folder: its own, and then the newest first.

    Those of snapshots that are gone are the oldest.
    """
    place = calibration_place(snapshot.folder)
    if files.exists(place):
        yield read_calibration(place)
    folder, _, name = place.rpartition("/")
    others = (other for other in files.list_places(folder) if other.endswith(CALIBRATION_SUFFIX))
    ids = (other.removesuffix(CALIBRATION_SUFFIX) for other in others if other != name)

    def published(snapshot: str) -> tuple[int, str]:
        return read_sequence(files.join(folder, snapshot)) or 0, snapshot

    for other in sorted(filter(is_snapshot_id, ids), key=published, reverse=True):
        yield read_calibration(calibration_place(files.join(folder, other)))


@cache
def shipped_calibrations() -> tuple[Calibration, ...]:
    """Return the calibrations that come with featureid, of its own models."""
    folder = resources.files("featureid.evaluation") / "shipped"
    found = sorted((path for path in folder.iterdir() if path.name.endswith(".json")), key=str)
    return tuple(decode_calibration(path.read_bytes(), path.name) for path in found)
