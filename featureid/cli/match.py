"""``featureid match``: search for the rows of one snapshot in another, with Beam."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console
from featureid.jobs import match
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.match import MatchSummary
from featureid.jobs.options import MatchOptions
from featureid.jobs.plan_match import MatchEstimate, plan_match
from featureid.matching.gallery import DEFAULT_K

_DESCRIPTION = """Search for each row of one snapshot in another, and publish the matches in
--output: on one machine or many, whatever the size. For some queries, take featureid search."""


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command, Beam's options not included."""
    parser = console.CommandParser(
        prog=prog,
        description=_DESCRIPTION,
        epilog="Beam's own options (--runner, --direct_num_workers, ...) are accepted as well.",
    )
    place = "output folder or one snapshot's folder; local path or URI"
    parser.add_argument("galleries", nargs="*", metavar="GALLERY", help=f"what to search: {place}")
    add = parser.add_argument
    add("--gallery", metavar="GALLERY", help="the same, as an option")
    add("--query", metavar="SNAPSHOT", help=f"whose rows to search for: {place}")
    add("--output", default="", metavar="DIR", help="output folder for results")
    add(
        *("-k", "--k"),
        type=int,
        metavar="K",
        help=f"matches per query; default: {DEFAULT_K}, or, with --threshold, all",
    )
    add("--threshold", type=float, metavar="T", help="lowest score, a cosine; default: none")
    since = "folder or id of an older snapshot; auto: that of the current result in --output"
    add(
        "--query-since",
        default="",
        metavar="auto|SNAPSHOT",
        help=f"search only for rows that are new since SNAPSHOT, {since}",
    )
    add(
        "--gallery-since",
        default="",
        metavar="auto|SNAPSHOT",
        help="search only among rows that are new since SNAPSHOT",
    )
    add(
        "--plan",
        action="store_true",
        help="estimate what the run will read, cost and write, from a sample; write nothing",
    )
    add("--no-wait", action="store_true", help="submit and return without waiting")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Match two snapshots; return the exit status."""
    parser = make_parser(prog)
    beam_options, own = split_beam_options(argv)
    arguments = console.parse(parser, own)
    options = match_options(arguments, parser)
    if arguments.plan:
        found = plan_match(options)
        console.print_result(asdict(found), arguments.json, _plan_lines(found))
        return console.DONE
    if arguments.no_wait:
        submission = match.submit(options, beam_options)
        console.print_result(
            asdict(submission),
            arguments.json,
            console.submission_lines(submission.folder, submission.job),
        )
        return console.DONE
    summary = match.run(options, beam_options, console.show_progress)
    console.print_result(asdict(summary), arguments.json, _summary_lines(summary))
    return console.DONE


def match_options(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> MatchOptions:
    """Return the options of a run from its parsed command line.

    Raises:
        UsageError: a value is missing or out of range.
    """
    galleries = [*arguments.galleries, *filter(None, [arguments.gallery])]
    required = {
        "GALLERY": galleries,
        "--query": arguments.query,
        "--output": arguments.output or arguments.plan,
    }
    console.check_given(parser, required)
    return MatchOptions(
        query=arguments.query,
        gallery=console.only_one(parser, "GALLERY", galleries),
        output=arguments.output,
        k=arguments.k,
        threshold=arguments.threshold,
        query_since=arguments.query_since,
        gallery_since=arguments.gallery_since,
    )


def _summary_lines(summary: MatchSummary) -> list[str]:
    cut_off = f"; {summary.cut_off} more were cut off by -k" if summary.cut_off else ""
    return [
        f"{summary.queries} queries in {summary.gallery_rows} rows: {summary.matches} matches of "
        f"{summary.matched_queries} queries{cut_off}",
        f"{summary.wall_s:.1f} s total",
        f"result: {summary.folder}",
    ]


def _plan_lines(found: MatchEstimate) -> list[str]:
    hours = found.cpu_s / 3600
    return [
        f"{found.queries} queries in {found.gallery_rows} rows",
        f"tasks          {found.tasks}, which read {found.bytes_read / 1e9:.2f} GB",
        f"CPU time       {found.cpu_s:.0f} s ({hours:.1f} h) on cores like this one's, at "
        f"{found.pairs_per_cpu_s / 1e6:.0f} million pairs/s",
        f"memory         {found.worker_mb:.0f} MB for a worker",
        f"output         about {found.rows} rows, {found.bytes / 1e6:.2f} MB in "
        f"{found.files} files",
    ]
