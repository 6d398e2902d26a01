"""``featureid embed``: embed a collection of images into a published snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console, metrics_file
from featureid.cli.embed_options import embed_options
from featureid.cli.embed_options import make_parser as make_embed_parser
from featureid.cli.metrics_file import Report
from featureid.errors import UsageError
from featureid.jobs import embed
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.embed import EmbedSummary, Submission
from featureid.write_plan import too_many_failures

_DESCRIPTION = "Embed images into a new snapshot in --output and publish it."


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command, Beam's options not included."""
    parser = make_embed_parser(prog, _DESCRIPTION)
    metrics_file.add_argument(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Embed a collection; return the exit status."""
    with metrics_file.reporting("embed", argv, prog) as report:
        report.status = _run(argv, prog, report)
    return report.status


def _run(argv: Sequence[str], prog: str, report: Report) -> int:
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = console.parse(parser, own)
    console.check_given(parser, {"--output": arguments.output})
    options = embed_options(arguments)
    if arguments.no_wait:
        if arguments.metrics is not None:
            raise UsageError(
                "--metrics tells how a run has ended, which --no-wait does not see; add --metrics "
                "to a featureid inspect that checks the output folder later"
            )
        submission = embed.submit(options, beam_options)
        console.print_result(asdict(submission), arguments.json, _submission_lines(submission))
        return console.DONE
    summary = embed.run(options, beam_options, console.show_progress)
    report.images = {
        **summary.this_run,
        "carried": summary.changes.get("unchanged", 0),
        "deleted": summary.changes.get("deleted", 0),
    }
    console.print_result(asdict(summary), arguments.json, _summary_lines(summary))
    reason = summary.published and too_many_failures(summary.counts, options.max_failure_rate)
    if reason:
        console.complain(f"{reason}; see featureid inspect {summary.folder} --failures")
        return console.TOO_MANY_FAILURES
    return console.DONE


def _submission_lines(submission: Submission) -> list[str]:
    job = f" as job {submission.job}" if submission.job else ""
    return [f"submitted{job}", f"snapshot: {submission.folder}"]


def _summary_lines(summary: EmbedSummary) -> list[str]:
    changes = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in summary.changes.items())
    return [
        f"{_counted(summary.images, 'image')}: {summary.embedded} embedded, {summary.failed} failed"
        + (f"; {_counted(summary.rows, 'face')}" if summary.rows != summary.embedded else ""),
        *(f"  {count:8d}  {reason}" for reason, count in summary.failures_by_reason.items()),
        *([f"{summary.kept} could not be read and keep their rows"] if summary.kept else []),
        *([f"since the previous snapshot: {changes}"] if changes else []),
        f"{summary.images_per_s:.1f} images/s, {summary.wall_s:.1f} s total",
        f"snapshot: {summary.folder}" if summary.published else "no changes; nothing published",
        *(
            ["not current: another run has published since"]
            if summary.published and not summary.current
            else []
        ),
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
