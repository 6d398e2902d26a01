"""``featureid embed``: embed a collection of images into a published snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console
from featureid.cli.embed_options import embed_options
from featureid.cli.embed_options import make_parser as make_embed_parser
from featureid.jobs import embed
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.embed import EmbedSummary, Submission

_DESCRIPTION = "Embed images into a new snapshot in --output and publish it."


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command, Beam's options not included."""
    return make_embed_parser(prog, _DESCRIPTION)


def run(argv: Sequence[str], prog: str) -> int:
    """Embed a collection; return the exit status."""
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = console.parse(parser, own)
    if not arguments.output:
        parser.error("the following arguments are required: --output")
    options = embed_options(arguments)
    if arguments.no_wait:
        submission = embed.submit(options, beam_options)
        console.print_result(asdict(submission), arguments.json, _submission_lines(submission))
        return console.DONE
    summary = embed.run(options, beam_options, console.show_progress)
    console.print_result(asdict(summary), arguments.json, _summary_lines(summary))
    reason = _too_many_failures(summary, arguments.max_failure_rate)
    if reason:
        console.complain(f"{reason}; see featureid inspect {summary.folder} --failures")
        return console.TOO_MANY_FAILURES
    return console.DONE


def _too_many_failures(summary: EmbedSummary, max_failure_rate: float) -> str:
    """Return why a published snapshot has too many failures; "" if it has not."""
    if not summary.published:
        return ""
    if summary.embedded == 0:
        return f"none of the {summary.images} images could be embedded"
    if summary.failed > max_failure_rate * summary.images:
        return (
            f"{summary.failed} of the {summary.images} images failed, more than "
            f"--max-failure-rate={max_failure_rate} allows"
        )
    return ""


def _submission_lines(submission: Submission) -> list[str]:
    job = f" as job {submission.job}" if submission.job else ""
    return [f"submitted{job}", f"snapshot: {submission.folder}"]


def _summary_lines(summary: EmbedSummary) -> list[str]:
    changes = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in summary.changes.items())
    return [
        f"{summary.images} images: {summary.embedded} embedded, {summary.failed} failed"
        + (f"; {summary.rows} faces" if summary.rows != summary.embedded else ""),
        *(f"  {count:8d}  {reason}" for reason, count in summary.failures_by_reason.items()),
        *([f"since the previous snapshot: {changes}"] if changes else []),
        f"{summary.images_per_s:.1f} images/s, {summary.wall_s:.1f} s total",
        f"snapshot: {summary.folder}" if summary.published else "no changes; nothing published",
    ]
