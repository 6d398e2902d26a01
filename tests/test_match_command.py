"""``featureid match``: what Beam finds and publishes is what a gallery in memory finds."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import featureid
from featureid.jobs.match import result_info
from featureid.matching.match_plan import MatchPlan, Side
from featureid.matching.tiles import TileSizes
from featureid.storage.results import ResultWriter
from featureid.storage.run_record import RunRecord
from featureid.storage.snapshot import snapshot_folder
from featureid.transforms.match import MatchSnapshots
from tests.commands import PORTABLE, run_here, run_process
from tests.match_samples import DIMENSION, embedded, matched_snapshots, write
from tests.matching_samples import Matrix, sample
from tests.storage_samples import make_info, write_rows

LOCAL = (f"--update_compatibility_version={beam.__version__}",)
SMALL_TILES = TileSizes(unit=8, held=16, tile=50, file=60)
FIRST, SECOND = "20261122T010203Z-ffffff", "20261124T010203Z-000000"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return matched_snapshots(tmp_path_factory.mktemp("match"))


def expected(
    query: str, gallery: str, k: int | None, threshold: float | None
) -> list[dict[str, Any]]:
    """Return the rows of the result, from a search in memory."""
    snapshot = featureid.open_snapshot(query)
    faces: list[dict[str, int]] = [{}] * snapshot.num_rows
    if snapshot.model.faces:
        faces = [{"query_face": int(face)} for face in snapshot.column("face_index")]
    found = featureid.Gallery(gallery).matches(snapshot.vectors(), k, threshold)
    return [
        {
            "query": key,
            **face,
            "rank": rank + 1,
            "key": hit.key,
            **({} if hit.face is None else {"face": hit.face}),
            "score": hit.score,
        }
        for key, face, matches in zip(snapshot.row_keys(), faces, found, strict=True)
        for rank, hit in enumerate(matches.hits)
    ]


@pytest.mark.parametrize(
    ("query", "gallery", "k", "threshold", "runner"),
    [
        ("small", "large", 3, None, LOCAL),
        ("small", "large", 3, None, PORTABLE),
        ("large", "small", None, 0.5, LOCAL),
        ("large faces", "small faces", 2, 0.3, LOCAL),
    ],
)
def test_many_tasks_and_files_give_what_a_gallery_gives(
    folders: dict[str, str],
    tmp_path: Path,
    query: str,
    gallery: str,
    k: int | None,
    threshold: float | None,
    runner: tuple[str, ...],
) -> None:
    plan = MatchPlan(Side(folders[query]), Side(folders[gallery]), k, threshold, SMALL_TILES)
    assert plan.tile().num_tiles > 4 and plan.tile().num_files > 1
    info = result_info(plan)
    writer = ResultWriter(str(tmp_path), info, RunRecord.begin(info, {}, {}))
    with writer.running(), beam.Pipeline(options=PipelineOptions([*runner])) as pipeline:
        _ = pipeline | MatchSnapshots(plan, writer)
    found = featureid.open_results(tmp_path)
    assert f"{len(found)} rows of matches" in found._repr_html_()
    wanted = expected(folders[query], folders[gallery], k, threshold)
    assert list(found) == wanted
    assert len(found.manifest.files) == plan.tile().num_files
    counts = found.manifest.counts
    assert counts["matches"] == len(wanted)
    names = [(row["query"], row.get("query_face")) for row in wanted]
    assert counts["matched_queries"] == len(set(names))
    everything = len(expected(folders[query], folders[gallery], None, threshold or -1))
    assert counts["cut_off"] == (0 if threshold is None else everything - len(wanted))


def write_night(out: Path, snapshot: str, vectors: Matrix, known: int = 0) -> None:
    """Publish a snapshot of rows; all but the known ones have keys of this night."""
    info = make_info(2, DIMENSION, snapshot=snapshot)
    rows = [
        embedded(f"{'old' if n < known else snapshot}/{n:02}.jpg", vector)
        for n, vector in enumerate(vectors)
    ]
    write_rows(out, info, rows)


def test_nights_are_matched_with_a_list_of_known_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = sample("random", 30, DIMENSION, 7)
    known, out, found = tmp_path / "known", tmp_path / "out", tmp_path / "found"
    write(known, [embedded(f"{n}.jpg", vectors[n]) for n in (2, 12, 25)], make_info(1, DIMENSION))
    options = [known, "--query", out, "--output", found, "--threshold=0.999"]

    def night(*more: object) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        summary = json.loads(run_here(capsys, "match", *options, *more, "--json"))
        rows = [(row["query"], row["key"]) for row in featureid.open_results(found)]
        return summary, rows

    write_night(out, FIRST, vectors[:20], known=20)
    first, rows = night("--query-since=auto")  # The first time, there is nothing to go by.
    assert sorted(rows) == [("old/02.jpg", "2.jpg"), ("old/12.jpg", "12.jpg")]
    assert first["queries"] == 20 and first["matched_queries"] == first["matches"] == 2

    write_night(out, SECOND, vectors, known=20)
    second, rows = night("--query-since=auto")
    assert rows == [(f"{SECOND}/25.jpg", "25.jpg")]
    assert (second["queries"], second["gallery_rows"], second["matches"]) == (10, 3, 1)
    sources = featureid.open_results(found).manifest.info.sources
    assert sources["query"].since == FIRST and sources["gallery"].since == ""

    nothing, rows = night("--query-since", SECOND)
    assert (nothing["queries"], nothing["matches"], rows) == (0, 0, [])
    older = snapshot_folder(str(out), FIRST)
    by_path = json.loads(
        run_here(capsys, "match", out, "--query", known, "-k1", "--gallery-since", older,
                 "--output", tmp_path / "other", "--json")
    )  # fmt: skip
    assert (by_path["queries"], by_path["gallery_rows"], by_path["matches"]) == (3, 10, 3)


def test_the_script_takes_options_as_beam_does(folders: dict[str, str], tmp_path: Path) -> None:
    program = (sys.executable, "-m", "pipelines.match")
    options = [f"--gallery={folders['large']}", f"--query={folders['small']}", "--k=2"]
    out = run_process(*options, f"--output={tmp_path}", "--direct_num_workers=1", program=program)
    assert "40 queries in 230 rows: 80 matches of 40 queries" in out
    assert list(featureid.open_results(tmp_path)) == expected(
        folders["small"], folders["large"], 2, None
    )


def test_a_plan_is_made_without_writing(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out"
    options = ["match", folders["large"], "--query", folders["small"], "--plan"]
    plan = json.loads(run_here(capsys, *options, "-k2", "--output", place, "--json"))
    assert (plan["queries"], plan["gallery_rows"], plan["pairs"]) == (40, 230, 40 * 230)
    assert (plan["tasks"], plan["files"], plan["rows"]) == (1, 1, 80)
    assert 0 < plan["bytes_read"] < 270 * (4 * DIMENSION + 100)
    assert plan["pairs_per_cpu_s"] > 0 and plan["worker_mb"] > 50 and plan["bytes"] > 0
    found = len(expected(folders["small"], folders["large"], None, 0.5))
    assert json.loads(run_here(capsys, *options, "--threshold=0.5", "--json"))["rows"] == found
    text = run_here(capsys, *options, "--threshold=0.9999999")
    assert text.startswith("40 queries in 230 rows\n") and "million pairs/s" in text
    since = ["--query-since", folders["small"]]
    assert json.loads(run_here(capsys, *options, *since, "--json"))["pairs"] == 0
    assert not place.exists()


def test_snapshots_of_different_models_are_refused_before_anything_runs(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = make_info(1, DIMENSION)
    other = replace(info, model=replace(info.model, name="other", digest="ef" * 32))
    place = write(tmp_path / "other", [embedded("a", sample("random", 1, DIMENSION, 1)[0])], other)
    out = tmp_path / "out"
    for options in (
        [folders["large"], "--query", place],
        [folders["large"], "--query", folders["small"], "--query-since", place],
    ):
        line = run_here(capsys, "match", *options, "--output", out, status=2)
        assert "cannot be compared: their model digest differs, " in line
        assert f"other {'ef' * 32}" in line and f"image {'ab' * 32}" in line and place in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "status", "error"),
    [
        ("", 2, "the following arguments are required: GALLERY, --query, --output"),
        ("LARGE --query SMALL", 2, "the following arguments are required: --output"),
        ("LARGE SMALL --query SMALL --output out", 2, "give one GALLERY, not "),
        ("LARGE --query SMALL --output out -k0", 2, "-k is 0; give 1 or more"),
        ("LARGE --query SMALL --output out --threshold=2", 2, "--threshold is 2.0; a score is"),
        ("LARGE --query SMALL --output out --no-wait", 2, "a local run ends with its command"),
        ("LARGE --query nowhere --output out", 1, "nowhere does not exist; check the spelling"),
        (f"LARGE --query SMALL --output out --query-since {FIRST}", 1, "does not exist"),
        ("LARGE --query SMALL --output out --gallery-since x", 1, "x does not exist"),
        ("LARGE --query SMALL --output SNAPSHOTS", 2, "holds snapshots, not results of matching"),
        ("LARGE --query SMALL --output out --runer=Flink", 2, "unrecognized arguments: --runer"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    folders: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    status: int,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = str(Path(folders["small"]).parents[1])
    names = {"LARGE": folders["large"], "SMALL": folders["small"], "SNAPSHOTS": output}
    words = [names.get(word, word) for word in options.split()]
    assert error in run_here(capsys, "match", *words, status=status)
    assert os.listdir(tmp_path) == []


def test_a_run_that_meets_damage_fails_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = sample("random", 20, DIMENSION, 3)
    rows = [embedded(f"{n}.jpg", vector) for n, vector in enumerate(vectors)]
    folder = write(tmp_path / "out", rows, make_info(1, DIMENSION))
    (shard,) = Path(folder).glob("*.fid.gz")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    options = [folder, "--query", folder, "--output", tmp_path / "found"]
    line = run_here(capsys, "match", *options, status=1)
    assert "is damaged" in line and str(shard) in line
    assert not (tmp_path / "found").exists()
