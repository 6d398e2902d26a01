"""The group job: the duplicates of a snapshot of any size, into a published result."""

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
from featureid.jobs.options import GroupOptions
from featureid.jobs.run_record import new_record
from featureid.matching.duplicate_plan import DuplicatePlan, duplicate_columns
from featureid.storage import files
from featureid.storage.reader import open_snapshot
from featureid.storage.result_reader import open_results
from featureid.storage.results import ResultInfo, ResultSource, ResultWriter, new_result_info
from featureid.storage.snapshot import new_snapshot_id
from featureid.transforms.duplicates import UNIT, GroupDuplicates
from featureid.transforms.progress import progress_of


@dataclass(frozen=True)
class GroupSummary:
    """What a run has found.

    Attributes:
        result: the id of the published result.
        folder: of that result.
        rows: number of rows of the snapshot.
        num_groups: number of groups.
        duplicates: number of rows that are in a group and not kept.
        recall: share of the pairs of near rows of a sample that were found; None without any.
        wall_s: seconds from the start to the end of the run.
    """

    result: str
    folder: str
    rows: int
    num_groups: int
    duplicates: int
    recall: float | None
    wall_s: float


def run(
    options: GroupOptions, beam_options: PipelineOptions, watch: Watch = nowhere
) -> GroupSummary:
    """Group duplicates, wait for the end, and return what was found.

    Args:
        options: what to group.
        beam_options: Beam's own options.
        watch: shows the progress of a local run.

    Raises:
        FeatureIdError: the snapshot or the output cannot be used, or the run failed; nothing is
            published then.
    """
    started = time.time()
    writer, _ = _start(options, beam_options, watch)
    counts = open_results(writer.folder).manifest.counts
    pairs, found = counts["sampled_pairs"], counts["sampled_pairs_found"]
    return GroupSummary(
        writer.info.result,
        writer.folder,
        rows=counts["rows"],
        num_groups=counts["groups"],
        duplicates=counts["duplicates"],
        recall=round(found / pairs, 4) if pairs else None,
        wall_s=round(time.time() - started, 3),
    )


def submit(options: GroupOptions, beam_options: PipelineOptions) -> ResultSubmission:
    """Start a run and leave it to its runner; publishing is a step of the run.

    Raises:
        UsageError: the runner ends with this process.
        FeatureIdError: the snapshot or the output cannot be used.
    """
    check_continues(beam_options)
    writer, result = _start(options, beam_options, watch=None)
    return ResultSubmission(writer.info.result, writer.folder, job_of(result))


def describe(options: GroupOptions) -> DuplicatePlan:
    """Return what is grouped, with nothing left open that depends on what is published.

    Raises:
        StorageError: the snapshot is missing or cannot be read.
    """
    snapshot = open_snapshot(options.snapshot)
    folder = files.absolute(snapshot.folder)  # workers have another current folder
    return DuplicatePlan(folder, options.duplicates())


def result_info(plan: DuplicatePlan) -> ResultInfo:
    """Return what every file of a new result of a run will say about it."""
    now, snapshot = datetime.now(UTC), plan.open()
    source = ResultSource(plan.folder, snapshot.manifest.info.snapshot, snapshot.num_rows)
    return new_result_info(
        "duplicates",
        new_snapshot_id(now),
        now,
        snapshot.model,
        {"snapshot": source},
        {"threshold": plan.options.threshold, "keep": plan.options.keep},
        duplicate_columns(snapshot.has_faces()),
    )


def _start(
    options: GroupOptions, beam_options: PipelineOptions, watch: Watch | None
) -> tuple[ResultWriter, PipelineResult]:
    """Start a run and, unless ``watch`` is None, wait; return what it writes, and the run."""
    pipeline = new_pipeline(beam_options)
    output = options.output if is_local(beam_options) else files.absolute(options.output)
    plan = describe(options)
    info = result_info(plan)
    writer = ResultWriter(output, info, new_record(info, options, beam_options))

    def build() -> None:
        _ = pipeline | "GroupDuplicates" >> GroupDuplicates(plan, writer)

    progress = progress_of(info.result, UNIT)
    progress.add(total=plan.open().num_rows)
    return writer, launch(pipeline, writer, build, progress, watch)
