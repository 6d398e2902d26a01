"""What scores of the known models mean: thresholds with their measured false-positive rates."""

from __future__ import annotations

from dataclasses import dataclass

from featureid.models import known_models
from featureid.storage.records import ModelInfo


@dataclass(frozen=True)
class Band:
    """A range of scores, from a threshold up to that of the band above.

    Attributes:
        name: ``duplicate``, ``review`` or ``related``.
        threshold: the lowest score.
        false_positives: how many of all pairs of different photos reach the threshold; an upper
            bound at 95 % confidence where none was seen.
        bound: whether it is such a bound.
    """

    name: str
    threshold: float
    false_positives: float
    bound: bool = False


_BANDS = {
    # 23.4 million pairs of a photo, edited in one of 22 ways, with another photo. At .82 and above
    # none was seen, so by the rule of three at most 3 in 23.4 million.
    "image": (
        Band("duplicate", 0.90, 1.3e-7, bound=True),
        Band("review", 0.80, 1.3e-7),
        Band("related", 0.70, 1.1e-5),
    ),
    # 10.06 million pairs of 13 edits (benchmarks/int8.py). At .80 and above none was seen.
    "image-int8": (
        Band("duplicate", 0.90, 3.0e-7, bound=True),
        Band("review", 0.80, 3.0e-7, bound=True),
        Band("related", 0.70, 5.9e-6),
    ),
}

DEFAULT_THRESHOLD = 0.90


def bands_of(model: ModelInfo) -> tuple[Band, ...]:
    """Return the bands of a model, highest first; () where none were measured."""
    return _BANDS.get(_known_name(model), ())


@dataclass(frozen=True)
class PeopleScores:
    """What the scores of two faces mean, measured over all pairs of many photos.

    Attributes:
        median: the median for two different people.
        high: what 1 % of the pairs of different people exceed.
        threshold: from this score on, two faces are taken for those of one person.
        false_positives: how many of all pairs of different people reach the threshold.
        true_positives: how many of all pairs of one person reach it.
    """

    median: float
    high: float
    threshold: float
    false_positives: float
    true_positives: float


#: Of the model ``face``, by detector: more than 12 million pairs of different people and 3,100 of
#: one, in the photos of View 1 of Labeled Faces in the Wild that each finds a face in.
_FACE = {
    "dlib": PeopleScores(0.835, 0.907, 0.93, 5.8e-4, 0.912),
    "blazeface": PeopleScores(0.835, 0.907, 0.93, 5.8e-4, 0.909),
}


def people_scores(model: ModelInfo) -> PeopleScores | None:
    """Return what scores of a model of faces mean; None where that has not been measured."""
    detector = model.faces.partition(" ")[0]
    return _FACE.get(detector) if _known_name(model) == "face" else None


def _known_name(model: ModelInfo) -> str:
    """Return the name of a known model, which is found by its digest; "" for any other."""
    return next((known.name for known in known_models() if known.digest == model.digest), "")
