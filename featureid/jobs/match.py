"""The match job: the rows of one snapshot searched for in another, into a published result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from featureid.jobs.beam_options import is_local, new_pipeline
from featureid.jobs.launch import (
    ResultSubmission,
    Watch,
    check_continues,
    job_of,
    launch,
    nowhere,
)
from featureid.jobs.options import AUTO, MatchOptions
from featureid.jobs.run_record import new_record
from featureid.matching.gallery import DEFAULT_K
from featureid.matching.match_plan import MatchPlan, Side, match_columns
from featureid.matching.scores import check_comparable
from featureid.storage import files
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.result_reader import open_results
from featureid.storage.results import ResultInfo, ResultSource, ResultWriter, new_result_info
from featureid.storage.snapshot import (
    RESULTS,
    find_snapshot,
    is_snapshot_id,
    new_snapshot_id,
    read_current,
)
from featureid.transforms.match import MatchSnapshots
from featureid.transforms.progress import progress_of


@dataclass(frozen=True)
class MatchSummary:
    """What a run has found.

    Attributes:
        result: the id of the published result.
        folder: of that result.
        queries: number of rows that were searched for.
        gallery_rows: number of rows that were searched.
        matched_queries: number of queries with a match.
        matches: number of all matches.
        cut_off: number of matches that reach the threshold and were cut off by ``k``.
        wall_s: seconds from the start to the end of the run.
    """

    result: str
    folder: str
    queries: int
    gallery_rows: int
    matched_queries: int
    matches: int
    cut_off: int
    wall_s: float


def run(
    options: MatchOptions, beam_options: PipelineOptions, watch: Watch = nowhere
) -> MatchSummary:
    """Match, wait for the end, and return what was found.

    Args:
        options: what to match.
        beam_options: Beam's own options.
        watch: shows the progress of a local run.

    Raises:
        MixedModelsError: the snapshots are of different models; nothing was started.
        FeatureIdError: a snapshot or the output cannot be used, or the run failed; nothing is
            published then.
    """
    started = time.time()
    writer, _ = _start(options, beam_options, watch)
    counts = open_results(writer.folder).manifest.counts
    wall = round(time.time() - started, 3)
    return MatchSummary(writer.info.result, writer.folder, **counts, wall_s=wall)


def submit(options: MatchOptions, beam_options: PipelineOptions) -> ResultSubmission:
    """Start a run and leave it to its runner; publishing is a step of the run.

    Raises:
        UsageError: the runner ends with this process.
        FeatureIdError: a snapshot or the output cannot be used.
    """
    check_continues(beam_options)
    writer, result = _start(options, beam_options, watch=None)
    return ResultSubmission(writer.info.result, writer.folder, job_of(result))


def describe(options: MatchOptions) -> MatchPlan:
    """Return what is matched, with nothing left open that depends on what is published.

    Raises:
        MixedModelsError: the snapshots are of different models.
        UsageError: an older snapshot is not known.
        StorageError: a snapshot is missing or cannot be read.
    """
    query, gallery = open_snapshot(options.query), open_snapshot(options.gallery)
    check_comparable(gallery.model, gallery.folder, query.model, query.folder)
    k = DEFAULT_K if options.k is None and options.threshold is None else options.k
    return MatchPlan(
        _side(query, options.query_since, "query", options.output),
        _side(gallery, options.gallery_since, "gallery", options.output),
        k,
        options.threshold,
    )


def _side(snapshot: Snapshot, since: str, role: str, output: str) -> Side:
    """Return the rows to match of a snapshot."""
    folder = files.absolute(snapshot.folder)  # workers have another current folder
    if since == AUTO:
        since = _last_matched(role, output)
    if not since:
        return Side(folder)
    if is_snapshot_id(since):
        beside = files.join(folder.rpartition("/")[0], since)
        since = since if files.exists(since) and not files.exists(beside) else beside
    before = open_snapshot(find_snapshot(since))
    check_comparable(snapshot.model, snapshot.folder, before.model, before.folder)
    return Side(folder, files.absolute(before.folder))


def _last_matched(role: str, output: str) -> str:
    """Return the id of the snapshot that the current result was made of; "" without a result."""
    if not output or read_current(output, RESULTS).snapshot is None:
        return ""
    return open_results(output).manifest.info.sources[role].snapshot


def _start(
    options: MatchOptions, beam_options: PipelineOptions, watch: Watch | None
) -> tuple[ResultWriter, PipelineResult]:
    """Start a run and, unless ``watch`` is None, wait; return what it writes, and the run."""
    pipeline = new_pipeline(beam_options)
    output = options.output if is_local(beam_options) else files.absolute(options.output)
    plan = describe(options)
    info = result_info(plan)
    writer = ResultWriter(output, info, new_record(info, options, beam_options))

    def build() -> None:
        _ = pipeline | "MatchSnapshots" >> MatchSnapshots(plan, writer)

    progress = progress_of(info.result, "tasks")
    return writer, launch(pipeline, writer, build, progress, watch)


def result_info(plan: MatchPlan) -> ResultInfo:
    """Return what every file of a new result of a run will say about it."""
    now = datetime.now(UTC)
    query, gallery = plan.open()
    return new_result_info(
        "matches",
        new_snapshot_id(now),
        now,
        query.model,
        {"query": _source(query, plan.query), "gallery": _source(gallery, plan.gallery)},
        {"k": plan.k, "threshold": plan.threshold},
        match_columns(query.model),
    )


def _source(snapshot: Snapshot, side: Side) -> ResultSource:
    since = side.since.rpartition("/")[2]
    info = snapshot.manifest.info
    return ResultSource(side.folder, info.snapshot, snapshot.num_rows, since)
