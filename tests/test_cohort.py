"""Scores that are corrected by a cohort: one definition, and the same in every search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import UsageError
from featureid.evaluation.trials import compare_all, compare_listed
from featureid.matching.cohort import Cohort
from featureid.matching.collection import read_collection
from featureid.matching.duplicates import DuplicateOptions, find_duplicates
from featureid.matching.gallery import Gallery
from featureid.matching.people import People, person_of
from featureid.matching.scores import pair_scores, query_vectors, row_vectors
from featureid.storage.reader import open_snapshot
from featureid.storage.records import EmbeddingRow
from tests.commands import run_here
from tests.matching_samples import Matrix, sample, unit
from tests.storage_samples import make_info, write_rows
from tests.test_evaluation import people

ROWS, PHOTOS, DIMENSION = 160, 4, 24
KEYS = [f"{row // PHOTOS:02}/{row % PHOTOS}.jpg" for row in range(ROWS)]


def faces(rows: int, each: int, seed: int) -> Matrix:
    """Return views of people who differ in how like a common face they are, as in bad light."""
    random = np.random.default_rng(seed)
    common = random.uniform(0, 4, (rows // each, 1)) * np.eye(DIMENSION)[0]
    own = random.standard_normal((rows // each, DIMENSION)) + common
    return unit(np.repeat(own, each, axis=0) + 0.6 * random.standard_normal((rows, DIMENSION)))


@pytest.fixture(scope="module")
def vectors() -> Matrix:
    return faces(ROWS, PHOTOS, 1)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort(faces(700, 1, 2))


def write(place: Path, keys: list[str], vectors: Matrix) -> Path:
    rows = [EmbeddingRow(*row, bytes(32), 1, "", 1, 1) for row in zip(keys, vectors, strict=True)]
    write_rows(place, make_info(2, dimension=DIMENSION), rows)
    return place


@pytest.fixture(scope="module")
def out(vectors: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cohort") / "out", KEYS, vectors)


def scores_of_all(queries: Matrix, rows: Matrix, cohort: Cohort) -> Matrix:
    """Return all corrected scores, one by one."""
    here, there = cohort.corrections(queries), row_vectors(rows, cohort.corrections(rows))
    return np.stack([pair_scores(query, there) for query in query_vectors(queries, here)])


def test_a_correction_is_the_mean_of_the_highest_scores(vectors: Matrix, cohort: Cohort) -> None:
    found = cohort.corrections(vectors)
    highest = np.sort(vectors.astype(np.longdouble) @ cohort.vectors.T, axis=1)[:, -50:]
    np.testing.assert_array_equal(found, highest.mean(axis=1).astype(np.float32))
    alone = [cohort.corrections(vector[np.newaxis], threads=1)[0] for vector in vectors]
    np.testing.assert_array_equal(found, alone)
    with pytest.raises(UsageError, match="the `cohort` has 499 feature IDs; give 500 or more"):
        Cohort(cohort.vectors[:499])


@pytest.mark.parametrize("dimension", [1, 2, 7, 128, 129])
def test_a_corrected_score_is_symmetric_and_less_half_of_both(dimension: int) -> None:
    one, other = sample("random", 80, dimension, 1), sample("clustered", 80, dimension, 2)
    here, there = np.random.default_rng(3).uniform(-1, 1, (2, 80)).astype(np.float32)
    scores = pair_scores(query_vectors(one, here), row_vectors(other, there))
    exact = (one.astype(np.longdouble) * other).sum(axis=1) - (here + there.astype(float)) / 2
    assert np.abs(scores - exact).max() <= 2.0**-23
    mirrored = pair_scores(query_vectors(other, there), row_vectors(one, here))
    np.testing.assert_array_equal(mirrored, scores)
    assert row_vectors(one, None) is query_vectors(one, None) is one


@pytest.mark.parametrize("stream", [False, True])
def test_galleries_search_by_corrected_scores(
    out: Path, vectors: Matrix, cohort: Cohort, stream: bool
) -> None:
    held: list[int] = []
    queries = faces(20, 2, 3)
    gallery = Gallery(out, stream=stream, cohort=cohort, progress=held.append)
    scores, wanted = scores_of_all(queries, vectors, cohort), []
    for row in scores:
        wanted.append([*np.lexsort((KEYS, -row))])
    for _ in range(2):
        found = gallery.search(queries, k=7)
        assert found.keys == [[KEYS[row] for row in order[:7]] for order in wanted]
    threshold = float(np.sort(scores, axis=None)[-300])
    above = gallery.search(queries, k=None, threshold=threshold)
    for query, order in enumerate(wanted):
        count = int((scores[query] >= np.float32(threshold)).sum())
        assert above.keys[query] == [KEYS[row] for row in order[:count]]
        np.testing.assert_array_equal(above.scores[query], np.sort(scores[query])[::-1][:count])
    (hit,) = gallery.matches(queries[0], k=1)[0].hits
    assert gallery.match(queries[0], hit.row) == hit
    assert sum(held) == (0 if stream else ROWS)


def test_an_index_is_refused_with_a_cohort(out: Path, cohort: Cohort) -> None:
    with pytest.raises(UsageError, match="an `index` finds rows by plain scores"):
        Gallery(out, index=True, cohort=cohort)


def test_people_are_named_by_corrected_scores(vectors: Matrix, cohort: Cohort) -> None:
    unknown = faces(24, 1, 4)
    scores = scores_of_all(unknown, vectors, cohort)
    found = People(KEYS, vectors).most_like(unknown, cohort)
    for row, likeness in enumerate(found):
        best = int(scores[row].argmax())
        assert (likeness.key, likeness.score) == (KEYS[best], scores[row, best])


@pytest.mark.parametrize("link", ["star", "single"])
def test_duplicates_reach_the_threshold_by_corrected_scores(
    out: Path, vectors: Matrix, cohort: Cohort, link: Any
) -> None:
    rows = read_collection(open_snapshot(out))
    rows = replace(rows, corrections=cohort.corrections(rows.vectors))
    scores = scores_of_all(rows.vectors, rows.vectors, cohort)
    threshold = float(np.sort(scores[np.triu_indices(ROWS, 1)])[-250])
    options = DuplicateOptions(threshold, link=link, keep="key")
    groups = find_duplicates(rows, options).groups
    assert len(groups) > 10
    for group in groups:
        for member in group.members:
            assert member.score == scores[group.center, member.row]
            near = scores[[group.keep, group.center], member.row] >= np.float32(threshold)
            assert near.all() or link == "single" or member.row in (group.keep, group.center)
    if link == "single":
        near = scores >= np.float32(threshold)
        np.fill_diagonal(near, val=True)
        reached = np.linalg.matrix_power(near.astype(float), ROWS) > 0
        parts = {frozenset(np.flatnonzero(row).tolist()) for row in reached if row.sum() > 1}
        assert {frozenset(member.row for member in group.members) for group in groups} == parts
    with pytest.raises(UsageError, match="`method='cells'` cannot find pairs by corrected scores"):
        find_duplicates(rows, replace(options, method="cells"))


def test_a_cohort_helps_where_some_people_are_like_many(cohort: Cohort) -> None:
    views = faces(450, 3, 5)
    images = replace(people(150, 3, 0), vectors=views, classes=np.repeat(np.arange(150), 3))
    helped = replace(images, corrections=cohort.corrections(views))
    plain, corrected = (compare_all(one) for one in (images, helped))
    assert corrected.exact.tar_at(0.01) > plain.exact.tar_at(0.01) + 0.02
    listed = compare_listed(helped, corrected.rows[:50], corrected.same[:50])
    assert listed.scores == pytest.approx(corrected.scores[:50], abs=1e-6)


def test_every_command_judges_by_the_corrected_scores(
    out: Path,
    vectors: Matrix,
    cohort: Cohort,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def run(*argv: object) -> Any:
        return json.loads(run_here(capsys, *argv, "--json"))

    others = write(tmp_path / "others", [f"{n:03}.jpg" for n in range(700)], cohort.vectors)
    unknown = write(tmp_path / "unknown", [f"x/{n}.jpg" for n in range(30)], faces(30, 1, 6))
    calibrated = run("calibrate", out, "--far", "0.01", "--cohort", others)
    threshold = calibrated["levels"][0]["threshold"]
    assert calibrated["cohort"]["images"] == 700
    scores = scores_of_all(vectors, vectors, cohort)

    searched = run("search", out, "--query", out, "-k", "5")
    assert searched["calibration"]["cohort"] == calibrated["cohort"]
    for result in searched["results"]:
        row = KEYS.index(result["query"])
        order = np.lexsort((KEYS, -scores[row]))[:5]
        assert [hit["key"] for hit in result["hits"]] == [KEYS[hit] for hit in order]
        for hit, score in zip(result["hits"], scores[row, order], strict=True):
            assert hit["score"] == pytest.approx(float(score), abs=1e-6)
            assert hit["verdict"] == ("same" if score >= threshold else "different")

    identified = run("identify", out, unknown)
    for result in identified["results"]:
        named = person_of(result["key"]) if result["score"] >= threshold else None
        assert result["person"] == named and identified["threshold"] == threshold

    grouped = run("duplicates", out)
    assert grouped["threshold"] == threshold and grouped["duplicates"] > 40
    members = [member for group in grouped["groups"] for member in group["members"]]
    assert all(member["score"] < 1 for member in members)  # of an image with itself as well

    text = run_here(capsys, "search", out, "--query", unknown, "-k1")
    assert text.splitlines()[-1].endswith("pairs of different ones, scores corrected by 700 others")
    given = ("--calibration", calibrated["file"])
    refused = run_here(capsys, "search", out, "--query", out, "--index", *given, status=2)
    assert "corrects scores by a cohort, and --index cannot; leave one of them out" in refused
    refused = run_here(capsys, "duplicates", out, "--method=cells", *given, status=2)
    assert "corrects scores by a cohort, and --method=cells cannot" in refused
