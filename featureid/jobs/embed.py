"""The embed job: a collection of images into a published snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from featureid.embedding import check_hash, describe_model
from featureid.errors import StorageError
from featureid.inputs import check_sources, locate
from featureid.jobs.beam_options import is_local, new_pipeline
from featureid.jobs.launch import Watch, check_continues, job_of, launch, nowhere
from featureid.jobs.options import EmbedOptions
from featureid.jobs.previous import find_previous, keeps_rows
from featureid.jobs.run_metrics import run_metrics
from featureid.jobs.run_record import complete_record, new_record
from featureid.model_store import keep_model, share_model
from featureid.models import ModelBundle
from featureid.models.bundle import content_digest
from featureid.refresh import Planner
from featureid.storage import files
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.manifest import Counts
from featureid.storage.reader import Snapshot
from featureid.storage.records import SnapshotInfo
from featureid.storage.snapshot import new_info, new_snapshot_id, read_current, read_manifest
from featureid.transforms import CheckContent, EmbedReferences, ListImages, RefreshSnapshot
from featureid.transforms.progress import progress_of
from featureid.write_plan import WritePlan


@dataclass(frozen=True)
class Submission:
    """A submitted run that continues without this process.

    Attributes:
        snapshot: the id of the snapshot that it will publish.
        folder: of that snapshot.
        job: the runner's id of the job; None if it gives none, as in a template's launcher.
    """

    snapshot: str
    folder: str
    job: str | None


@dataclass(frozen=True)
class EmbedSummary:
    """What a run has done.

    Attributes:
        snapshot: the id of the published snapshot, or of the previous one if nothing changed.
        folder: of that snapshot.
        published: False if nothing changed, so that nothing was published.
        current: whether readers of the output get that snapshot; not if another run has published
            since.
        changes: number of images that were new, changed, unchanged, ...; empty without a previous
            snapshot.
        images: images in the input.
        embedded: images with a row in the snapshot.
        rows: rows in the snapshot: one per embedded image, or one per face.
        failed: images without a row in it.
        kept: images that could not be read, so that they have the rows of an earlier run.
        failures_by_reason: number of failed images by reason.
        this_run: number of images that this run ``embedded``, and that ``failed`` in it; what was
            carried over is in the numbers above only.
        started: when the run started, ``2026-11-23T05:42:31.123Z``.
        wall_s: seconds from then to the end of the run.
        images_per_s: images embedded or failed per second while images were embedded, that is
            without start-up and writing; 0 if none was embedded.
        first_image_s: seconds from the start to the first embedded image; None without one.
    """

    snapshot: str
    folder: str
    published: bool
    current: bool
    changes: dict[str, int]
    images: int
    embedded: int
    rows: int
    failed: int
    kept: int
    failures_by_reason: dict[str, int]
    this_run: dict[str, int]
    started: str
    wall_s: float
    images_per_s: float
    first_image_s: float | None

    @property
    def counts(self) -> Counts:
        """The numbers of images of the snapshot."""
        reasons = self.failures_by_reason
        return Counts(self.images, self.embedded, self.failed, reasons, self.kept)


def build_pipeline(
    pipeline: beam.Pipeline, options: EmbedOptions, content: str, plan: WritePlan
) -> None:
    """Add the whole run to ``pipeline``: list, check contents, embed, write, publish."""
    info = plan.writer.info
    run = info.snapshot
    sources = pipeline | "Inputs" >> beam.Create(options.sources)
    policy = options.refresh.policy
    planner = Planner(plan.previous, policy, keeps_rows(plan.previous, policy, info.model))
    listed = sources | ListImages(planner, run)
    images, same = listed["images"], {}
    if plan.previous is not None and policy.check == "content":
        checked = listed["compare"] | CheckContent(options.settings, run)
        images = (images, checked["images"]) | "ToEmbed" >> beam.Flatten()
        same = {"same": checked["same"]}
    embed = EmbedReferences(options.model, content, info.model, options.settings, run)
    # A partition of the listing was planned in one place; embedding should use all workers. All
    # images are spread at once: Beam's fuser also loses what is flattened with a shuffle's output.
    spread = images | "SpreadImages" >> beam.Reshuffle()
    embedded = spread | "EmbedImages" >> embed.with_resource_hints(**options.hints)
    # All at once: ``unlisted`` is a side input as well, and Beam's fuser, which Flink uses, loses
    # what goes into a Flatten behind another one of which that is true.
    failures = (
        (listed["unlisted"], listed["failures"], embedded.failures)
        | "AllFailures" >> beam.Flatten()
    )  # fmt: skip
    (
        {
            "rows": embedded.rows,
            "failures": failures,
            "unread": embedded.failures,
            **{name: listed[name] for name in ("changes", "missing", "found", "carried")},
            **same,
        }
        | RefreshSnapshot(plan)
    )


def run(
    options: EmbedOptions, beam_options: PipelineOptions, watch: Watch = nowhere
) -> EmbedSummary:
    """Embed, wait for the end, and return what was done.

    Args:
        options: what to embed.
        beam_options: Beam's own options.
        watch: shows the progress of a local run.

    Raises:
        FeatureIdError: the inputs, the output or the model cannot be used, or the run failed;
            nothing is published then.
    """
    started = time.time()
    plan, result = _start(options, beam_options, watch=watch)
    return _summarize(plan, result, started)


def submit(options: EmbedOptions, beam_options: PipelineOptions) -> Submission:
    """Start a run and leave it to its runner; publishing is a step of the run.

    As nobody here sees its end, the run itself fails if more images have failed than
    ``options.max_failure_rate`` allows, even if it publishes anyway.

    Raises:
        UsageError: the runner ends with this process.
        FeatureIdError: the inputs, the output or the model cannot be used.
    """
    check_continues(beam_options)
    plan, result = _start(options, beam_options, watch=None)
    return Submission(plan.writer.info.snapshot, plan.writer.folder, job_of(result))


def _start(
    options: EmbedOptions, beam_options: PipelineOptions, watch: Watch | None
) -> tuple[WritePlan, PipelineResult]:
    """Start a run and, unless ``watch`` is None, wait; return what it writes, and the run."""
    pipeline = new_pipeline(beam_options)
    local = is_local(beam_options)
    options = replace(options, sources=check_sources(options.sources))
    if not local:  # Workers elsewhere share files with this process, but not its current folder.
        options = replace(options, output=files.absolute(options.output))
    options, model, info, previous = describe_run(options)
    record = new_record(info, options, beam_options, previous)
    folder = "" if previous is None else previous.folder
    plan = WritePlan(
        SnapshotWriter(options.output, info, record, folder, options.safeguards),
        previous,
        fixed_shards=options.num_shards is not None,
        max_failure_rate=options.max_failure_rate,
        publish_anyway=options.publish_anyway,
        unattended=watch is None,
    )
    share_model(model)

    def build() -> None:
        # Workers elsewhere do not share this process's cache of models either.
        place = options.model if local else keep_model(options.output, model)
        build_pipeline(pipeline, replace(options, model=place), content_digest(model), plan)

    result = launch(pipeline, plan.writer, build, progress_of(info.snapshot), watch)
    return plan, result


def describe_run(
    options: EmbedOptions,
) -> tuple[EmbedOptions, ModelBundle, SnapshotInfo, Snapshot | None]:
    """Load the model and find out what every file of the new snapshot will say about it.

    Returns:
        The options with nothing left open that depends on what is installed or published, the
        model, what the snapshot will say, and the previous snapshot; None for a full run.

    Raises:
        UsageError: the model is unknown, or takes whole images and the options name faces.
        ModelError: the model or the face detector cannot be loaded or built.
        FeatureIdError: as in :func:`featureid.jobs.previous.find_previous`.
    """
    bundle, settings, model = describe_model(options.model, options.settings, options.dtype)
    previous, policy, hash_ = find_previous(options, model)
    settings, model = replace(settings, hash=hash_), replace(model, hash=hash_)
    check_hash(bundle, settings)
    now = datetime.now(UTC)
    locations = locate(options.sources)
    info = new_info(new_snapshot_id(now), now, model, options.num_shards or 1, locations)
    refresh = replace(options.refresh, policy=policy)
    return replace(options, settings=settings, refresh=refresh), bundle, info, previous


def _summarize(plan: WritePlan, result: PipelineResult, started: float) -> EmbedSummary:
    metrics = run_metrics(result)
    folder = plan.writer.folder
    record = complete_record(folder, metrics)
    if record is not None:
        manifest = read_manifest(folder)
    elif plan.previous is not None:
        # Without a record of this run nothing has changed: the previous snapshot is the result. Its
        # manifest is not read again, since prune may have deleted it after the run.
        folder, manifest = plan.previous.folder, plan.previous.manifest
    else:
        raise StorageError(f"{folder} was published, but has been deleted meanwhile, as by prune")
    counts = manifest.counts
    first = metrics.first_image
    began = datetime.fromtimestamp(started, UTC).replace(tzinfo=None)
    return EmbedSummary(
        snapshot=manifest.info.snapshot,
        folder=folder,
        published=record is not None,
        current=read_current(plan.writer.output).snapshot == manifest.info.snapshot,
        changes=dict(record.changes or {}) if record else metrics.changes,
        images=counts.images,
        embedded=counts.embedded,
        rows=manifest.rows,
        failed=counts.failed,
        kept=counts.kept,
        failures_by_reason=counts.failures_by_reason,
        this_run=metrics.this_run,
        started=f"{began.isoformat(timespec='milliseconds')}Z",
        wall_s=round(time.time() - started, 3),
        images_per_s=metrics.images_per_s,
        first_image_s=None if first is None else round(first - started, 3),
    )
