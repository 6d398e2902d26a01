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
from apache_beam.metrics import MetricsFilter
from apache_beam.metrics.cells import DistributionResult
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.resources import parse_resource_hints

from featureid import __version__
from featureid.embedding import DEFAULT_BATCH_SIZE, EmbedSettings
from featureid.errors import FeatureIdError, UsageError
from featureid.images import DecodeLimits
from featureid.inputs import InputSource, check_source
from featureid.model_store import keep_model
from featureid.models import BackendKind, ModelBundle, resolve_model
from featureid.storage import files
from featureid.storage.manifest import Manifest
from featureid.storage.records import DTYPES, ModelInfo, SnapshotInfo
from featureid.storage.snapshot import (
    created_text,
    new_snapshot_id,
    prepare_snapshot,
    read_manifest,
)
from featureid.transforms import EmbedImages, ListImages, WriteSnapshot
from featureid.transforms.progress import PROGRESS
from pipelines import console
from pipelines.beam_options import is_local, split_beam_options
from pipelines.waiting import wait_for_end

_LIMITS = DecodeLimits()


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
        hints: Beam's resource hints for the workers that embed, name to value.
    """

    sources: tuple[InputSource, ...]
    output: str
    model: str = "image"
    num_shards: int | None = None
    dtype: str = "float32"
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    hints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("no input: name folders, globs or images, or a --manifest")
        if self.num_shards is not None and self.num_shards < 1:
            raise UsageError(f"--num-shards is {self.num_shards}; it must be 1 or more")
        try:
            parse_resource_hints(self.hints)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--embed-hint: {error}; see Beam's resource hints") from error


@dataclass(frozen=True)
class Submission:
    """A run that goes on by itself.

    Attributes:
        snapshot: the folder that it publishes in the end.
        job: the runner's id of the job; None where it gives none, as in a template's launcher.
    """

    snapshot: str
    job: str | None

    def text(self) -> str:
        """The submission for people."""
        return f"submitted{f' as job {self.job}' if self.job else ''}\nsnapshot: {self.snapshot}"


@dataclass(frozen=True)
class EmbedSummary:
    """What a run has done.

    Attributes:
        snapshot: the folder of the published snapshot.
        images: pictures in the input.
        embedded: pictures with a row in the snapshot.
        failed: pictures with a failure row.
        failures_by_reason: how many failed for which reason.
        started: when the run started, in seconds since 1970.
        seconds: from then to the end of the run.
        images_per_s: pictures a second, embedded or failed, while pictures were embedded: without
            the time to start up and to write; 0 where none was embedded.
        first_image_s: seconds from the start to the first embedded picture; None without one.
    """

    snapshot: str
    images: int
    embedded: int
    failed: int
    failures_by_reason: dict[str, int]
    started: float
    seconds: float
    images_per_s: float
    first_image_s: float | None

    def text(self) -> str:
        """The summary for people."""
        lines = [
            f"{self.images} images: {self.embedded} embedded, {self.failed} failed",
            *(f"  {count:8d}  {reason}" for reason, count in self.failures_by_reason.items()),
            f"{self.images_per_s:.1f} images/s, {self.seconds:.1f} s in all",
            f"snapshot: {self.snapshot}",
        ]
        return "\n".join(lines)


def build_pipeline(
    pipeline: beam.Pipeline, options: EmbedOptions, model: ModelBundle, info: SnapshotInfo
) -> None:
    """Add the whole run to ``pipeline``: list, embed, write, publish."""
    listed = pipeline | "Inputs" >> beam.Create(options.sources) | ListImages()
    embed = EmbedImages(options.model, model.digest, options.settings)
    embedded = listed["images"] | embed.with_resource_hints(**options.hints)
    failures = (listed["failures"], embedded["failures"]) | "AllFailures" >> beam.Flatten()
    (
        {
            "rows": embedded["rows"],
            "failures": failures,
            "num_images": listed["num_images"],
        }
        | WriteSnapshot(options.output, info, choose_shards=options.num_shards is None)
    )


def run(options: EmbedOptions, beam_options: PipelineOptions) -> EmbedSummary:
    """Embed, wait for the end, and tell what was done.

    Raises:
        FeatureIdError: the inputs, the output or the model cannot be used, or the run failed;
            nothing is published then.
    """
    started = time.time()
    folder, result = _start(options, beam_options)
    if is_local(beam_options):
        result.wait_until_finish()
    else:
        wait_for_end(result)
    return _summarize(read_manifest(folder), folder, result, started)


def submit(options: EmbedOptions, beam_options: PipelineOptions) -> Submission:
    """Start a run and leave it to its runner; publishing is a step of the run.

    Raises:
        UsageError: the runner ends with this process.
        FeatureIdError: the inputs, the output or the model cannot be used.
    """
    if is_local(beam_options):
        raise UsageError(
            "--no-wait needs a runner that goes on by itself, such as --runner=DataflowRunner; a "
            "local run ends with its command"
        )
    folder, result = _start(options, beam_options)
    # Dataflow's result has a job, but in a template's launcher, where the service starts it later.
    job = result.job_id() if getattr(result, "has_job", False) else None
    return Submission(folder, job)


def _start(options: EmbedOptions, beam_options: PipelineOptions) -> tuple[str, PipelineResult]:
    """Start a run; returns the folder that it is going to publish, and the run."""
    for source in options.sources:
        check_source(source)
    model = resolve_model(options.model)
    if not is_local(beam_options):
        options = _for_workers_elsewhere(options, model)
    info = _snapshot_info(options, model)
    folder = prepare_snapshot(options.output, info.snapshot)
    pipeline = beam.Pipeline(options=beam_options)
    build_pipeline(pipeline, options, model, info)
    PROGRESS.reset()
    if is_local(beam_options):
        return folder, pipeline.run()
    try:
        return folder, pipeline.run()
    except Exception as error:  # Each runner has errors of its own.
        raise FeatureIdError(
            f"the run could not be submitted: {type(error).__name__}: {error}; check the runner's "
            "options, that it can be reached, and what you are allowed to do there"
        ) from error


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


def _snapshot_info(options: EmbedOptions, model: ModelBundle) -> SnapshotInfo:
    now = datetime.now(timezone.utc)
    return SnapshotInfo(
        snapshot=new_snapshot_id(now),
        created=created_text(now),
        writer=f"featureid {__version__}",
        model=ModelInfo(
            name=model.name,
            digest=model.digest,
            preprocessing_digest=model.preprocessing.digest,
            dimension=model.dimension,
            dtype=options.dtype,
        ),
        num_shards=options.num_shards or 1,
    )


def _summarize(
    manifest: Manifest, folder: str, result: PipelineResult, started: float
) -> EmbedSummary:
    counts = manifest.counts
    rate, first_image_s = 0.0, None
    if counts.embedded:
        # Several workers count for themselves; the runner has put their figures together.
        begun, embedded = (
            _distribution(result, "begun_at_ms"),
            _distribution(result, "embedded_at_ms"),
        )
        rate = counts.images / max((embedded.max - begun.min) / 1000, 1e-3)
        first_image_s = round(embedded.min / 1000 - started, 3)
    return EmbedSummary(
        snapshot=folder,
        images=counts.images,
        embedded=counts.embedded,
        failed=counts.failed,
        failures_by_reason=counts.failures_by_reason,
        started=started,
        seconds=round(time.time() - started, 3),
        images_per_s=round(rate, 2),
        first_image_s=first_image_s,
    )


def _distribution(result: PipelineResult, name: str) -> DistributionResult:
    (found,) = result.metrics().query(MetricsFilter().with_name(name))["distributions"]
    return found.result


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of this pipeline's own options."""
    parser = console.Parser(
        prog=prog,
        description="Embed images into a new snapshot below --output and publish it.",
        epilog="Beam's own options (--runner, --direct_num_workers, ...) may be added.",
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="folder (recursive), glob, or image; or a URI")
    add("--input", action="append", default=[], metavar="INPUT", help="the same, as an option")
    add("--manifest", metavar="FILE", help="text, .csv, .tsv or .parquet file that lists images")
    add("--column", default="path", help="of the manifest, where it has any; default: %(default)s")
    add("--strip-prefix", default="", metavar="PREFIX", help="taken off paths to make image keys")
    add("--output", required=True, metavar="DIR", help="where snapshots are kept")
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
    add("--backend", choices=get_args(BackendKind), default="litert", help="default: %(default)s")
    add("--threads", type=int, default=0, metavar="N", help="a process; default: all cores")
    add("--batch-size", type=int, default=DEFAULT_BATCH_SIZE, metavar="N", help="images a batch")
    add("--max-bytes", type=int, default=_LIMITS.max_bytes, metavar="N", help="of an image file")
    add("--max-pixels", type=int, default=_LIMITS.max_pixels, metavar="N", help="of an image")
    add(
        "--embed-hint",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Beam's resource hint for workers that embed, such as min_ram=8GB; may be repeated",
    )
    add("--no-wait", action="store_true", help="leave the run to its runner once it is submitted")
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
        ),
        hints=dict(_hint(text) for text in arguments.embed_hint),
    )


def _hint(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--embed-hint is {text!r}; give NAME=VALUE, such as min_ram=8GB")
    return name, value


def run_command_line(argv: Sequence[str], prog: str) -> int:
    """Run the command; returns its exit status."""
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = parser.parse_args(own)
    console.set_up_log(arguments.log_level)
    options = embed_options(arguments)
    if arguments.no_wait:
        submission = submit(options, beam_options)
        console.print_result(asdict(submission), arguments.json, submission.text())
        return console.DONE
    with console.progress_line(PROGRESS.line):
        summary = run(options, beam_options)
    console.print_result(asdict(summary), arguments.json, summary.text())
    allowed = arguments.max_failure_rate * summary.images
    too_many = summary.failed > allowed or summary.embedded == 0
    return console.TOO_MANY_FAILURES if too_many else console.DONE


if __name__ == "__main__":
    prog = "python -m pipelines.embed"
    sys.exit(console.run_command(lambda: run_command_line(sys.argv[1:], prog)))
