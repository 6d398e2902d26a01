"""Calibrations: measured rates, their files, and whose vectors they judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featureid.errors import CorruptFileError, MixedModelsError, NewerVersionError, UsageError
from featureid.evaluation.calibration import (
    Calibration,
    Population,
    calibrate,
    decode_calibration,
    encode_calibration,
    find_calibration,
    level_at,
    shipped_calibrations,
    stored_cohort,
    write_calibration,
)
from featureid.evaluation.cohort import Cohort, corrected
from featureid.evaluation.trials import compare_all
from featureid.matching.people import People
from featureid.models import known_models
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
        CorruptFileError, match=r"file is not .* it was changed after it was written"
    ):
        decode_calibration(data.replace(b'"mine"', b'"yours"'), "file")
    fields = json.loads(data)
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


def test_a_cohort_counts_only_where_scores_can_be_corrected(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a.jpg"])
    snapshot = open_snapshot(tmp_path)
    cohort = stored_cohort(Cohort(unit(np.random.default_rng(0).standard_normal((500, 4)))))
    place = write_calibration(snapshot, replace(calibration(), cohort=cohort))
    assert find_calibration(MODEL, None, snapshot) is not None
    assert find_calibration(MODEL, None, snapshot, cohort=False) is None
    with pytest.raises(
        UsageError, match="corrects scores by a cohort, which this command does not"
    ):
        find_calibration(MODEL, place, cohort=False)


def test_corrections_are_means_of_the_highest_scores() -> None:
    random = np.random.default_rng(3)
    cohort, vectors = unit(random.standard_normal((600, 8))), unit(random.standard_normal((9, 8)))
    found = Cohort(cohort).corrections(vectors)
    wanted = np.sort(vectors @ cohort.T, axis=1)[:, -50:].mean(axis=1)
    assert found == pytest.approx(wanted, abs=1e-6)
    scores = np.array([0.5, 0.25], np.float32)
    halves = np.array([0.2, 0.4]), np.array([0.4, 0.0])
    assert corrected(scores, *halves) == pytest.approx([0.2, 0.05])
    with pytest.raises(UsageError, match="the `cohort` has 499 feature IDs; give 500 or more"):
        Cohort(cohort[:499])


def test_people_are_ordered_by_corrected_scores() -> None:
    random = np.random.default_rng(4)
    known, faces = (unit(random.standard_normal((rows, 8)) + 1) for rows in (40, 25))
    cohort = Cohort(unit(random.standard_normal((500, 8)) + 1))
    keys = [f"{number % 10}/{number}.jpg" for number in range(40)]
    half = cohort.corrections(known) / 2
    wanted = faces.astype(np.float64) @ known.T - half
    for row, found in enumerate(People(keys, known).most_like(faces, cohort.corrections)):
        assert found.key == keys[int(wanted[row].argmax())]
        own = cohort.corrections(faces[row : row + 1])[0] / 2
        assert found.score == pytest.approx(wanted[row].max() - own, abs=1e-6)


def test_a_cohort_helps_where_some_people_are_like_many() -> None:
    """Faces differ in how near they are to a common one, as those of a badly lit photo are."""
    random = np.random.default_rng(5)
    classes = np.repeat(np.arange(150), 3)
    common, own = np.eye(24)[0], random.standard_normal((850, 24))
    near = random.uniform(0, 4, (850, 1)) * common
    views = (own + near)[classes] + 0.6 * random.standard_normal((450, 24))
    images = replace(people(150, 3, 0), vectors=unit(views), classes=classes, corrections=None)
    plain = compare_all(images).exact
    cohort = Cohort(unit((own + near)[150:] + 0.6 * random.standard_normal((700, 24))))
    helped = compare_all(replace(images, corrections=cohort.corrections(images.vectors))).exact
    assert helped.tar_at(0.01) > plain.tar_at(0.01) + 0.02


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
