"""``featureid group``: what Beam finds and publishes is what ``duplicates`` finds in memory."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import featureid
from featureid.cli import duplicates, group
from featureid.jobs.group import result_info
from featureid.matching import cells
from featureid.matching.collection import read_collection
from featureid.matching.duplicate_plan import DuplicatePlan, TaskSizes
from featureid.matching.duplicates import DuplicateOptions, Duplicates, find_duplicates
from featureid.storage.results import ResultWriter
from featureid.storage.run_record import RunRecord
from featureid.transforms.duplicates import GroupDuplicates
from tests.commands import PORTABLE, run_here, run_process
from tests.match_samples import embedded, matched_snapshots, write
from tests.matching_samples import Matrix, sample, unit
from tests.storage_samples import make_info

LOCAL = (f"--update_compatibility_version={beam.__version__}",)
SMALL = TaskSizes(read=100, compared=50, written=40)
DIMENSION = 8


def crowded(rows: int) -> Matrix:
    """Return rows with a third that are near copies of one, a chain, and copies of others."""
    random = np.random.default_rng(1)
    base = sample("random", rows, DIMENSION, 1)
    base[: rows // 3] = unit(base[0] + 0.05 * random.standard_normal((rows // 3, DIMENSION)))
    base[rows // 3 : rows // 2] = base[rows // 2 : rows // 2 * 2 - rows // 3]
    angles = np.radians(8 * np.arange(20))
    base[-20:] = 0
    base[-20:, :2] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return base[random.permutation(rows)]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("group")
    rows = [
        replace(embedded(f"{n:04}.jpg", vector), width=n % 7 + 1, sha256=bytes([n % 5] * 32))
        for n, vector in enumerate(crowded(600))
    ]
    found = {"crowded": write(place / "crowded", rows, make_info(3, DIMENSION))}
    found["empty"] = write(place / "empty", [], make_info(2, DIMENSION))
    return found | matched_snapshots(place)


def in_memory(folder: str, options: DuplicateOptions) -> tuple[Duplicates, list[dict[str, Any]]]:
    """Return what is found in memory, and the rows of the result that it stands for."""
    rows = read_collection(featureid.open_snapshot(folder), hashes=False)
    found = find_duplicates(rows, options)
    return found, [
        {
            "group": group.center,
            "key": rows.keys[member.row],
            **({} if rows.faces[0] is None else {"face": rows.faces[member.row]}),
            "score": member.score,
            "keep": member.row == group.keep,
            "center": member.row == group.center,
            "identical": member.identical,
        }
        for group in found.groups
        for member in group.members
    ]


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows by group, in whichever file it is; the order in a group stays."""
    return sorted(rows, key=lambda row: row["group"])


@pytest.mark.parametrize(
    ("name", "threshold", "keep", "runner", "rows_per_pivot", "max_part"),
    [
        ("crowded", 0.9, "largest", LOCAL, 30, 1 << 17),
        ("crowded", 0.9, "key", PORTABLE, 1000, 1 << 17),
        ("crowded", 0.6, "oldest", LOCAL, 60, 50),
        ("large", 0.7, "key", LOCAL, 20, 1 << 17),
        ("large faces", 0.7, "key", LOCAL, 1000, 1 << 17),
    ],
)
def test_many_tasks_and_files_give_what_is_found_in_memory(
    snapshots: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    threshold: float,
    keep: Any,
    runner: tuple[str, ...],
    rows_per_pivot: int,
    max_part: int,
) -> None:
    monkeypatch.setattr(cells, "_ROWS_PER_PIVOT", rows_per_pivot)
    monkeypatch.setattr(cells, "MAX_PART", max_part)
    options = DuplicateOptions(threshold, keep, method="cells")
    plan = DuplicatePlan(snapshots[name], options, SMALL)
    info = result_info(plan)
    writer = ResultWriter(str(tmp_path), info, RunRecord.begin(info, {}, {}))
    with writer.running(), beam.Pipeline(options=PipelineOptions([*runner])) as pipeline:
        _ = pipeline | GroupDuplicates(plan, writer)
    found = featureid.open_results(tmp_path)
    wanted, rows = in_memory(snapshots[name], options)
    if max_part < len(rows):
        monkeypatch.setattr(cells, "MAX_PART", 1 << 17)
        assert in_memory(snapshots[name], options)[1] != rows
    assert len(wanted.groups) > 3
    assert in_order([*found]) == in_order(rows)
    assert len(found.manifest.files) > 1
    assert wanted.recall is not None
    assert found.manifest.counts == {
        "rows": featureid.open_snapshot(snapshots[name]).num_rows,
        "groups": len(wanted.groups),
        "duplicates": len(rows) - len(wanted.groups),
        "sampled_pairs": wanted.recall.pairs,
        "sampled_pairs_found": wanted.recall.found,
    }


def test_the_command_publishes_a_result_and_says_what_is_in_it(
    snapshots: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = snapshots["crowded"], "--output", tmp_path, "--threshold=0.95", "--keep=key"
    summary = json.loads(run_here(capsys, "group", *options, "--json"))
    wanted, rows = in_memory(
        snapshots["crowded"], DuplicateOptions(0.95, keep="key", method="cells")
    )
    assert summary["num_groups"] == len(wanted.groups) and summary["rows"] == 600
    assert summary["duplicates"] == len(rows) - len(wanted.groups)
    found = featureid.open_results(tmp_path)
    assert (found.folder, summary["recall"]) == (summary["folder"], 1.0)
    assert list(found) == rows  # one file, in the order of duplicates
    info = found.manifest.info
    assert info.options == {"threshold": 0.95, "keep": "key"}
    assert info.sources["snapshot"].folder == snapshots["crowded"]
    text = run_here(capsys, "group", *options)
    assert f"{summary['duplicates']} of 600 rows are duplicates" in text
    assert "of the close pairs of a sample, 100.0% were found" in text
    nothing = run_here(capsys, "group", snapshots["empty"], "--output", tmp_path / "none")
    assert "0 of 0 rows are duplicates, in 0 groups" in nothing


def test_the_script_takes_options_as_beam_does(snapshots: dict[str, str], tmp_path: Path) -> None:
    program = (sys.executable, "-m", "pipelines.duplicates")
    options = f"--input={snapshots['large']}", f"--output={tmp_path}", "--threshold=0.99"
    out = run_process(*options, "--direct_num_workers=1", program=program)
    assert "of 230 rows are duplicates" in out
    wanted = DuplicateOptions(0.99, method="cells")
    assert list(featureid.open_results(tmp_path)) == in_memory(snapshots["large"], wanted)[1]


def test_a_plan_writes_nothing(
    snapshots: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(run_here(capsys, "group", snapshots["crowded"], "--plan", "--json"))
    assert (found["rows"], found["sets"], found["cells"], found["tasks"]) == (600, 3, 1, 1)
    assert found["bytes_sent"] == 3 * 2 * 600 * (4 * DIMENSION + 8)
    assert found["cpu_s"] > 0 and found["worker_mb"] > 10 and found["bytes_read"] > 600 * 32
    text = run_here(capsys, "group", snapshots["empty"], "--plan", "--output", tmp_path / "out")
    assert "0 rows, in 3 sets of 1 cells" in text
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        ([], 2, "the following arguments are required: SNAPSHOT, --output"),
        (
            ["a", "--output=c", "--since=x"],
            2,
            "group has no --since; to compare new images",
        ),
        (["a", "--output=c", "--link=single"], 2, "has no --link; it groups a whole snapshot"),
        (["a", "--input=b", "--output=c"], 2, "give one SNAPSHOT, not a, b"),
        (["nowhere", "--output=c"], 1, "nowhere does not exist"),
        (["a", "--output=c", "--threshold=2"], 2, "--threshold is 2.0; a score is from -1 to 1"),
        (["{large}", "--output={large}/../..", "--no-wait"], 2, "a local run ends with its"),
        (["{large}", "--output={large}/../.."], 2, "holds snapshots, not results"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    snapshots: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    status: int,
    message: str,
) -> None:
    arguments = [argument.format(**snapshots) for argument in argv]
    assert message in run_here(capsys, "group", *arguments, status=status)


def test_what_only_duplicates_can_do_is_known() -> None:
    known, own = (
        {name for action in parser._actions for name in action.option_strings}
        for parser in (duplicates.make_parser("x"), group.make_parser("x"))
    )
    assert {*group._ELSEWHERE} == known - own
