"""Calibrations: measured rates, their files, and whose vectors they judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import CorruptFileError, MixedModelsError, NewerVersionError, UsageError
from featureid.evaluation.calibration import (
    Calibration,
    Level,
    Population,
    Share,
    calibrate,
    decode_calibration,
    encode_calibration,
    find_calibration,
    level_at,
    shipped_calibrations,
    stored_cohort,
    write_calibration,
)
from featureid.evaluation.trials import compare_all
from featureid.matching.cohort import Cohort
from featureid.models import known_models
from featureid.storage.manifest import encode_manifest
from featureid.storage.reader import open_snapshot
from featureid.storage.records import ModelInfo
from tests.matching_samples import unit
from tests.storage_samples import write_snapshot
from tests.test_evaluation import people

MODEL = ModelInfo("image", "ab" * 32, "cd" * 32, 4)


def calibration(model: ModelInfo = MODEL, name: str = "mine") -> Calibration:
    level, percentiles = calibrate(compare_all(people(30, 4, 1)), 0.01, samples=20)
    population = Population("30 people", "", 120, 0, 30, 180, 6960)
    return Calibration(name, model, population, (level,), percentiles)


def test_the_threshold_is_the_lowest_that_keeps_the_rate() -> None:
    trials = compare_all(people(30, 4, 1))
    level, percentiles = calibrate(trials, 0.01, samples=50)
    different = trials.scores[~trials.same]
    assert (different >= level.threshold).mean() == level.far.value <= 0.01
    lower = trials.scores[trials.scores < level.threshold].max()
    assert (different >= lower).mean() > 0.01
    assert level.tar.value == (trials.scores[trials.same] >= level.threshold).mean()
    low, high = level.threshold_interval or (1, 0)
    assert low <= level.threshold <= high and level.target == 0.01
    for share in (level.far, level.tar):
        assert share.interval[0] <= share.value <= share.interval[1]
    assert percentiles["50"] == pytest.approx(np.median(different), abs=0.01)


def test_what_was_never_seen_has_a_bound() -> None:
    trials = compare_all(people(30, 4, 1, noise=0.01))
    level = level_at(trials, "same", 0.999, samples=20)
    assert level.far.value == level.far.interval[0] == 0
    assert level.far.interval[1] == pytest.approx(3 / 6960)


@pytest.mark.parametrize(
    ("far", "message"),
    [
        (0, "`far` is 0; give a share of pairs between 0 and 1"),
        (1e-4, "`far` is 0.0001, of which 6960 pairs .* have 0.7 false accepts; 3 are the least"),
    ],
)
def test_a_rate_that_the_pairs_do_not_carry_is_refused(far: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(compare_all(people(30, 4, 1)), far)


def test_a_file_holds_all_and_is_refused_if_changed() -> None:
    cohort = Cohort(unit(np.random.default_rng(0).standard_normal((500, 4))))
    mine = replace(calibration(), cohort=stored_cohort(cohort))
    data = encode_calibration(mine)
    assert decode_calibration(data, "file") == mine
    again = mine.opened_cohort()
    assert again is not None and np.array_equal(again.vectors, cohort.vectors)
    with pytest.raises(
        CorruptFileError, match="file: it was changed after it was written: its digest"
    ):
        decode_calibration(data.replace(b'"mine"', b'"yours"'), "file")
    fields = json.loads(data)
    for wrong, message in (
        ({"cohort": {**fields["cohort"], "images": 501}}, "8000 bytes, not those of 501 vectors"),
        ({"different_percentiles": {"50": 0.1}}, "its percentiles lack 99"),
        ({"levels": []}, "its thresholds are"),
    ):
        forged = encode_manifest({**fields, **wrong})
        with pytest.raises(CorruptFileError, match=message):
            decode_calibration(forged, "file")
    with pytest.raises(NewerVersionError, match="update featureid"):
        decode_calibration(json.dumps({**fields, "version": 2}).encode(), "file")
    with pytest.raises(CorruptFileError, match="its format is None"):
        decode_calibration(b"{}", "file")
    with pytest.raises(CorruptFileError, match="not JSON"):
        decode_calibration(data[:-20], "file")


def test_it_judges_vectors_of_its_own_model_alone(tmp_path: Path) -> None:
    other = replace(MODEL, preprocessing_digest="ef" * 32)
    with pytest.raises(
        MixedModelsError, match="'mine' is of another preprocessing than x: image cd"
    ):
        calibration().check_fits(other, "x")
    write_snapshot(tmp_path, ["a.jpg", "b.jpg"])
    snapshot = open_snapshot(tmp_path)
    assert find_calibration(MODEL, None, snapshot) is None
    place = write_calibration(snapshot, calibration(other))
    assert find_calibration(MODEL, None, snapshot) is None  # of another preprocessing
    with pytest.raises(MixedModelsError):
        find_calibration(MODEL, place)
    write_calibration(snapshot, calibration())
    assert find_calibration(MODEL, None, snapshot) == calibration()
    # A later snapshot of the same model has none of its own.
    later = tmp_path / "snapshots" / "20261124T054231Z-3f9a1c"
    (tmp_path / "snapshots" / snapshot.manifest.info.snapshot).rename(later)
    assert find_calibration(MODEL, None, open_snapshot(later)) == calibration()


def test_without_one_of_its_own_that_of_what_was_published_last_counts(tmp_path: Path) -> None:
    ids = [f"2026112{day}T054231Z-3f9a1c" for day in (8, 4, 5)]  # the first by a clock ahead
    snapshots = []
    for name in ids:
        write_snapshot(tmp_path, ["a.jpg"], snapshot=name)
        snapshots.append(open_snapshot(tmp_path / "snapshots" / name))
    for number, snapshot in enumerate(snapshots[:2]):
        write_calibration(snapshot, calibration(name=f"number {number}"))
    found = find_calibration(MODEL, None, snapshots[2])
    assert found is not None and found.name == "number 1"


def test_a_cohort_counts_only_where_scores_can_be_corrected(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a.jpg"])
    snapshot = open_snapshot(tmp_path)
    cohort = stored_cohort(Cohort(unit(np.random.default_rng(0).standard_normal((500, 4)))))
    place = write_calibration(snapshot, replace(calibration(), cohort=cohort))
    assert find_calibration(MODEL, None, snapshot) is not None
    assert find_calibration(MODEL, None, snapshot, plain="`index`") is None
    with pytest.raises(UsageError, match="corrects scores by a cohort, and `index` cannot; leave"):
        find_calibration(MODEL, place, plain="`index`")


def test_shipped_calibrations_are_of_known_models() -> None:
    digests = {known.digest: known.name for known in known_models()}
    shipped = shipped_calibrations()
    assert {digests[one.model.digest] for one in shipped} >= {"image", "image-int8", "face"}
    for one in shipped:
        assert one.population.classes >= 500 and not one.population.digest
        assert find_calibration(one.model, None) == one
        for level in one.levels:
            assert level.far.interval[0] <= level.far.value <= level.far.interval[1] < 1e-3 or (
                one.model.faces and level.far.value < 1e-3
            )


@pytest.mark.parametrize(
    ("far", "message"),
    [((1, (0.9, 1)), "1 of the pairs"), ((0, (0, 0)), "0 of the pairs"), ((2, (0, 1)), "not a sh")],
)
def test_a_level_of_which_no_probability_follows_is_refused(far: Any, message: str) -> None:
    with pytest.raises(CorruptFileError, match=message):
        Level("same", 0.5, Share(*far), Share(0.9, (0.8, 0.95)))
