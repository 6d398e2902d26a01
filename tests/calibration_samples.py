"""A calibration of a tiny model, with a cohort, for the fuzzer."""

from __future__ import annotations

from featureid.cli import verdicts
from featureid.evaluation.calibration import (
    Calibration,
    Level,
    Population,
    Share,
    encode_calibration,
    stored_cohort,
)
from featureid.matching.cohort import LEAST_COHORT, Cohort
from featureid.storage.records import ModelInfo
from tests.matching_samples import sample

CALIBRATION = Calibration(
    name="tiny é",
    model=ModelInfo("tiny", "ab" * 32, "cd" * 32, 2),
    population=Population("30 people", "ef" * 32, 120, 2, 30, 180, 6960),
    levels=(
        Level("same", 0.9, Share(0.01, (0.005, 0.02)), Share(0.9, (0.8, 0.95)), 0.01, (0.89, 0.91)),
        Level("related", 0.7, Share(0.1, (0.08, 0.12)), Share(1.0, (0.9, 1.0))),
    ),
    different_percentiles={"50": 0.4, "99": 0.9},
    cohort=stored_cohort(Cohort(sample("random", LEAST_COHORT, 2, 0))),
)


def use_calibration(calibration: Calibration) -> None:
    """Judge scores by a calibration, and write it again."""
    for score in (-1.0, 0.0, 0.8, 1.0):
        verdict = calibration.verdict(score)
        assert 0 <= verdicts.probability(calibration, verdict, 0.5) <= 1
        assert [*verdicts.lines(calibration, verdict)]
    cohort = calibration.opened_cohort()
    assert cohort is None or cohort.vectors.shape[1] == calibration.model.dimension
    assert encode_calibration(calibration)
    assert verdicts.described(calibration)["levels"]
