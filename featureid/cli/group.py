"""``featureid group``: group the duplicates of a snapshot of any size, with Beam."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console
from featureid.jobs import group
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.group import GroupSummary
from featureid.jobs.options import GroupOptions
from featureid.jobs.plan_group import GroupEstimate, plan_group
from featureid.matching.duplicates import DEFAULT_THRESHOLD

_DESCRIPTION = """Group the images of a snapshot that look alike, and publish the groups in
--output: on one machine or many, whatever the size, by the vectors alone. For what one machine
holds, take featureid duplicates, which can do more; to look for new images among known ones,
featureid match."""
_KEEP = ("largest", "oldest", "key")
_NEW_ROWS = (
    "to compare new images, or all, with known ones, take featureid match and its options "
    "--query-since and --gallery-since; on one machine, featureid duplicates"
)
# What only featureid duplicates can do.
_ELSEWHERE = {
    **dict.fromkeys(("--against", "--since"), _NEW_ROWS),
    **dict.fromkeys(
        (
            "--calibration",
            "--csv",
            "--histogram",
            "--ignore-pairs",
            "--link",
            "--method",
            "--move-to",
            "--no-hash",
            "--prefix",
            "--report",
            "--root",
            "--script",
        ),
        "it groups a whole snapshot in stars, by vectors; for more, take featureid duplicates",
    ),
}


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command, Beam's options not included."""
    parser = console.CommandParser(
        prog=prog,
        description=_DESCRIPTION,
        epilog="Beam's own options (--runner, --direct_num_workers, ...) are accepted as well.",
        elsewhere=_ELSEWHERE,
    )
    place = "output folder or one snapshot's folder; local path or URI"
    parser.add_argument("snapshots", nargs="*", metavar="SNAPSHOT", help=f"what to group: {place}")
    add = parser.add_argument
    add("--input", metavar="SNAPSHOT", help="the same, as an option")
    add("--output", default="", metavar="DIR", help="output folder for results")
    add(
        "--threshold",
        type=float,
        default=DEFAULT_THRESHOLD,
        metavar="T",
        help="lowest score of a duplicate; default: %(default)s, for the model image",
    )
    add(
        "--keep",
        choices=_KEEP,
        default="largest",
        help="image of a group to keep: most pixels, changed first, or first by key; default: "
        "%(default)s",
    )
    add(
        "--plan",
        action="store_true",
        help="estimate what the run will read, send and cost, from a sample; write nothing",
    )
    add("--no-wait", action="store_true", help="submit and return without waiting")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Group duplicates; return the exit status."""
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = console.parse(parser, own)
    options = group_options(arguments, parser)
    if arguments.plan:
        found = plan_group(options)
        console.print_result(asdict(found), arguments.json, _plan_lines(found))
    elif arguments.no_wait:
        submission = group.submit(options, beam_options)
        console.print_result(
            asdict(submission),
            arguments.json,
            console.submission_lines(submission.folder, submission.job),
        )
    else:
        summary = group.run(options, beam_options, console.show_progress)
        console.print_result(asdict(summary), arguments.json, _summary_lines(summary))
    return console.DONE


def group_options(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> GroupOptions:
    """Return the options of a run from its parsed command line.

    Raises:
        UsageError: a value is missing or out of range.
    """
    snapshots = [*arguments.snapshots, *filter(None, [arguments.input])]
    required = {"SNAPSHOT": snapshots, "--output": arguments.output or arguments.plan}
    console.check_given(parser, required)
    snapshot = console.only_one(parser, "SNAPSHOT", snapshots)
    return GroupOptions(snapshot, arguments.output, arguments.threshold, arguments.keep)


def _summary_lines(summary: GroupSummary) -> list[str]:
    recall = []
    if summary.recall is not None:
        recall = [f"of the close pairs of a sample, {summary.recall:.1%} were found"]
    return [
        f"{summary.duplicates} of {summary.rows} rows are duplicates, in {summary.num_groups} "
        "groups",
        *recall,
        f"{summary.wall_s:.1f} s total",
        f"result: {summary.folder}",
    ]


def _plan_lines(found: GroupEstimate) -> list[str]:
    return [
        f"{found.rows} rows, in {found.sets} sets of {found.cells} cells",
        f"read           {found.bytes_read / 1e9:.2f} GB by {found.tasks} tasks, in two passes",
        f"sent           {found.bytes_sent / 1e9:.2f} GB to cells",
        f"CPU time       {found.cpu_s:.0f} s ({found.cpu_s / 3600:.1f} h) on cores like this "
        f"one's, at {found.pairs_per_cpu_s / 1e6:.0f} million pairs/s",
        f"memory         {found.worker_mb:.0f} MB for a worker",
    ]
