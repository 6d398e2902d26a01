"""Embed a collection of images into a published snapshot.

``featureid embed INPUT… --output DIR`` and ``python -m pipelines.embed --input=… --output=…`` are
the same pipeline; Beam's own options may stand on either command line.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import get_args

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from featureid import __version__
from featureid.embedding import DEFAULT_BATCH_SIZE, EmbedSettings
from featureid.errors import UsageError
from featureid.faces import digest_of_run, finder_for
from featureid.images import DecodeLimits, FaceFinder
from featureid.inputs import InputSource, check_source
from featureid.model_store import keep_model
from featureid.models import BackendKind, ModelBundle, resolve_model
from featureid.storage import files
from featureid.storage.records import DTYPES, ModelInfo, SnapshotInfo
from featureid.storage.snapshot import (
    created_text,
    new_snapshot_id,
    read_manifest,
)
from featureid.transforms import CompareContent, EmbedImages, ListImages, WritePlan, WriteSnapshot
from featureid.transforms.progress import PROGRESS
from pipelines import console, face_options
from pipelines.beam_options import is_local, split_beam_options
from pipelines.previous import (
    RefreshOptions,
    add_refresh_arguments,
    find_previous,
    refresh_options,
)
from pipelines.report import complete_report, marked_run, new_report, run_metrics
from pipelines.waiting import wait_for_end

_LIMITS = DecodeLimits()
_DESCRIPTION = "Embed images into a new snapshot below --output and publish it."


@dataclass(frozen=True)
class EmbedOptions:
    """What to embed, with which model, and where to.

    Attributes:
        sources: the inputs, at least one.
        output: the folder that holds snapshots; local or a URI.
        model: a known model's name, or the path of a model bundle.
        num_shards: files to spread the rows over; None chooses by the number of images.
        dtype: how vectors are stored, ``float32`` or ``float16``.
        settings: threads, batch size, limits and back end.
        refresh: what is carried over from a previous snapshot.
    """

    sources: tuple[InputSource, ...]
    output: str
    model: str = "image"
    num_shards: int | None = None
    dtype: str = "float32"
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    refresh: RefreshOptions = field(default_factory=RefreshOptions)

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("no input: name folders, globs or images, or a --manifest")
        if self.num_shards is not None and self.num_shards < 1:
            raise UsageError(f"--num-shards is {self.num_shards}; it must be 1 or more")


@dataclass(frozen=True)
class EmbedSummary:
    """What a run has done.

    Attributes:
        snapshot: the folder of the published snapshot; of the previous one if nothing was new.
        published: False if nothing was new, so that nothing was published.
        changes: how many pictures were new, changed, unchanged, ...; empty without a previous
            snapshot.
        images: pictures in the input.
        embedded: pictures with a row in the snapshot.
        rows: rows in the snapshot: as many, or one a face.
        failed: pictures with a failure row.
        failures_by_reason: how many failed for which reason.
        started: when the run started, in seconds since 1970.
        seconds: from then to the end of the run.
        images_per_s: pictures a second, embedded or failed in this run, while pictures were
            embedded: without the time to start up and to write; 0 where none was embedded.
        first_image_s: seconds from the start to the first embedded picture; None without one.
    """

    snapshot: str
    published: bool
    changes: dict[str, int]
    images: int
    embedded: int
    rows: int
    failed: int
    failures_by_reason: dict[str, int]
    started: float
    seconds: float
    images_per_s: float
    first_image_s: float | None

    def text(self) -> str:
        """The summary for people."""
        changes = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in self.changes.items())
        lines = [
            f"{self.images} images: {self.embedded} embedded, {self.failed} failed"
            + (f"; {self.rows} faces" if self.rows != self.embedded else ""),
            *(f"  {count:8d}  {reason}" for reason, count in self.failures_by_reason.items()),
            *([f"since the previous snapshot: {changes}"] if changes else []),
            f"{self.images_per_s:.1f} images/s, {self.seconds:.1f} s in all",
            f"snapshot: {self.snapshot}" if self.published else "nothing new: nothing is published",
        ]
        return "\n".join(lines)


def build_pipeline(
    pipeline: beam.Pipeline, options: EmbedOptions, model: ModelBundle, plan: WritePlan
) -> None:
    """Add the whole run to ``pipeline``: list, compare, embed, write, publish."""
    sources = pipeline | "Inputs" >> beam.Create(options.sources)
    listed = sources | ListImages(plan.previous, options.refresh.policy)
    images, same = listed["images"], {}
    if plan.previous and options.refresh.policy.check == "content":
        compared = listed["compare"] | CompareContent(options.settings)
        images = (images, compared["images"]) | "ToEmbed" >> beam.Flatten()
        same = {"same": compared["same"]}
    embed = EmbedImages(
        options.model, model.digest, plan.info.model.preprocessing_digest, options.settings
    )
    embedded = images | embed
    failures = (listed["failures"], embedded["failures"]) | "AllFailures" >> beam.Flatten()
    (
        {
            "rows": embedded["rows"],
            "failures": failures,
            "changes": listed["changes"],
            "carried": listed["carried"],
            **same,
        }
        | WriteSnapshot(plan)
    )


def run(options: EmbedOptions, beam_options: PipelineOptions) -> EmbedSummary:
    """Embed, wait for the end, and tell what was done.

    Raises:
        FeatureIdError: the inputs, the output or the model cannot be used, or the run failed;
            nothing is published then.
    """
    started = time.time()
    for source in options.sources:
        check_source(source)
    options, model, info = describe_run(options)
    if not is_local(beam_options):
        options = _for_workers_elsewhere(options, model)
    previous = find_previous(options.refresh, options.output, info.model)
    report = new_report(info, options, beam_options, previous)
    plan = WritePlan(
        options.output,
        info,
        report,
        previous,
        fixed_shards=options.num_shards is not None,
        max_deleted=options.refresh.policy.max_deleted,
    )
    with marked_run(plan, local=is_local(beam_options)):
        pipeline = beam.Pipeline(options=beam_options)
        build_pipeline(pipeline, options, model, plan)
        PROGRESS.reset()
        result = pipeline.run()
        if is_local(beam_options):
            result.wait_until_finish()
        else:
            wait_for_end(result)
    return _summarize(plan, result, started)


def _for_workers_elsewhere(options: EmbedOptions, model: ModelBundle) -> EmbedOptions:
    """The same options where workers share files with this process, but no folder or cache.

    Raises:
        UsageError: an input is relative to this process's folder.
        StorageError: the model cannot be put into the output folder.
    """
    for source in options.sources:
        if not files.is_remote(source.path) and not os.path.isabs(source.path):
            raise UsageError(
                f"input {source.path!r} is relative to the folder that you are in, which the "
                f"workers of this runner do not know; name {os.path.abspath(source.path)!r}, and "
                "perhaps --strip-prefix"
            )
    output = files.absolute(options.output)
    return replace(options, output=output, model=keep_model(output, model))


def describe_run(options: EmbedOptions) -> tuple[EmbedOptions, ModelBundle, SnapshotInfo]:
    """Load the model and find out what every file of the new snapshot will say about it.

    Returns:
        The options with nothing left open that depends on what is installed, the model, and what
        the snapshot will say.

    Raises:
        UsageError: the model is not known, or has no use for the options of faces.
        ModelError: the model or the face detector cannot be loaded or built.
    """
    model = resolve_model(options.model)
    finder = finder_for(model.preprocessing, options.settings.faces)
    if finder:
        options = replace(options, settings=replace(options.settings, faces=finder.settings))
    return options, model, _snapshot_info(options, model, finder)


def _snapshot_info(
    options: EmbedOptions, model: ModelBundle, finder: FaceFinder | None
) -> SnapshotInfo:
    now = datetime.now(timezone.utc)
    return SnapshotInfo(
        snapshot=new_snapshot_id(now),
        created=created_text(now),
        writer=f"featureid {__version__}",
        model=ModelInfo(
            name=model.name,
            digest=model.digest,
            preprocessing_digest=digest_of_run(model.preprocessing, finder),
            dimension=model.dimension,
            dtype=options.dtype,
            faces=finder.line if finder else "",
        ),
        num_shards=options.num_shards or 1,
    )


def _summarize(plan: WritePlan, result: PipelineResult, started: float) -> EmbedSummary:
    metrics = run_metrics(result)
    report = complete_report(plan.folder, metrics)
    # Without a report of this run there is nothing new: the previous snapshot says it all.
    folder = plan.folder if report else plan.previous_folder
    manifest = read_manifest(folder)
    counts = manifest.counts
    first = metrics.spans.get("embedded")
    return EmbedSummary(
        snapshot=folder,
        published=report is not None,
        changes=dict(report.changes or {}) if report else metrics.changes,
        images=counts.images,
        embedded=counts.embedded,
        rows=manifest.rows,
        failed=counts.failed,
        failures_by_reason=counts.failures_by_reason,
        started=started,
        seconds=round(time.time() - started, 3),
        images_per_s=metrics.images_per_s,
        first_image_s=None if first is None else round(first.begin - started, 3),
    )


def make_parser(prog: str, description: str = _DESCRIPTION) -> argparse.ArgumentParser:
    """The parser of this pipeline's own options."""
    parser = console.Parser(
        prog=prog,
        description=description,
        epilog="Beam's own options (--runner, --direct_num_workers, ...) may be added.",
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="folder (recursive), glob, or image; or a URI")
    add("--input", action="append", default=[], metavar="INPUT", help="the same, as an option")
    add("--manifest", metavar="FILE", help="text, .csv, .tsv or .parquet file that lists images")
    add("--column", default="path", help="of the manifest, where it has any; default: %(default)s")
    add("--strip-prefix", default="", metavar="PREFIX", help="taken off paths to make image keys")
    add("--output", default="", metavar="DIR", help="where snapshots are kept")
    add("--model", default="image", metavar="NAME|FILE", help="default: %(default)s")
    add("--num-shards", type=int, metavar="N", help="files to write; default: about 50 MB each")
    add("--dtype", choices=DTYPES, default="float32", help="as stored; default: %(default)s")
    add(
        "--max-failure-rate",
        type=float,
        default=1.0,
        metavar="R",
        help="exit with 3 if a larger share of the images fails; default: %(default)s",
    )
    add_refresh_arguments(parser)
    add("--backend", choices=get_args(BackendKind), default="litert", help="default: %(default)s")
    add("--threads", type=int, default=0, metavar="N", help="a process; default: all cores")
    add("--batch-size", type=int, default=DEFAULT_BATCH_SIZE, metavar="N", help="images a batch")
    add("--max-bytes", type=int, default=_LIMITS.max_bytes, metavar="N", help="of an image file")
    add("--max-pixels", type=int, default=_LIMITS.max_pixels, metavar="N", help="of an image")
    face_options.add_arguments(parser)
    console.add_common_arguments(parser)
    return parser


def embed_options(arguments: argparse.Namespace) -> EmbedOptions:
    """The options of a run from its parsed command line.

    Raises:
        UsageError: a value is out of range, or there is no input.
    """
    common = {"strip_prefix": arguments.strip_prefix, "exclude": arguments.output}
    sources = [InputSource(path, **common) for path in (*arguments.inputs, *arguments.input)]
    if arguments.manifest is not None:
        sources.append(
            InputSource(arguments.manifest, manifest=True, column=arguments.column, **common)
        )
    if not 0 <= arguments.max_failure_rate <= 1:
        raise UsageError(f"--max-failure-rate is {arguments.max_failure_rate}; give 0 to 1")
    return EmbedOptions(
        sources=tuple(sources),
        output=arguments.output,
        model=arguments.model,
        num_shards=arguments.num_shards,
        dtype=arguments.dtype,
        settings=EmbedSettings(
            backend=arguments.backend,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            limits=DecodeLimits(arguments.max_pixels, arguments.max_bytes),
            faces=face_options.settings(arguments),
        ),
        refresh=refresh_options(arguments),
    )


def run_command_line(argv: Sequence[str], prog: str) -> int:
    """Run the command; returns its exit status."""
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = parser.parse_args(own)
    console.set_up_log(arguments.log_level)
    if not arguments.output:
        parser.error("the following arguments are required: --output")
    options = embed_options(arguments)
    with console.progress_line(PROGRESS.line):
        summary = run(options, beam_options)
    console.print_result(asdict(summary), arguments.json, summary.text())
    if not summary.published:
        return console.DONE
    allowed = arguments.max_failure_rate * summary.images
    too_many = summary.failed > allowed or summary.embedded == 0
    return console.TOO_MANY_FAILURES if too_many else console.DONE


if __name__ == "__main__":
    prog = "python -m pipelines.embed"
    sys.exit(console.run_command(lambda: run_command_line(sys.argv[1:], prog)))
