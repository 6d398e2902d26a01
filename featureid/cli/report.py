"""``featureid report``: a snapshot, or a result of matching, as a page to look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from featureid.cli import console, report_option
from featureid.cli.snapshots import DEAD_AFTER
from featureid.durations import parse_duration
from featureid.reports.results import results_report
from featureid.reports.snapshot import snapshot_report
from featureid.reports.write import check_report
from featureid.storage.history import Entry, list_snapshots
from featureid.storage.reader import open_snapshot
from featureid.storage.result_reader import is_result, open_results
from featureid.storage.snapshot import SNAPSHOTS


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Write a page that shows a snapshot: its images, its failures, and the runs "
        "before it; or the groups or matches of a result.",
    )
    parser.add_argument(
        "snapshot", metavar="DIR", help="output folder, or the folder of one snapshot or result"
    )
    parser.add_argument(
        "--output",
        default="report.html",
        metavar="FILE.html",
        help="the page; default: %(default)s",
    )
    report_option.add_root(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Write the page; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    check_report(arguments.output)
    line, described = _written(arguments)
    console.print_result({**described, "report": arguments.output}, arguments.json, [line])
    return console.DONE


def _written(arguments: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """Write the page; return the line that says where it is, and what it shows."""
    if is_result(arguments.snapshot):
        results = open_results(arguments.snapshot)
        described = {"result": results.manifest.info.result, "folder": results.folder}
        report = results_report(results, arguments.root)
    else:
        snapshot = open_snapshot(arguments.snapshot)
        described = {"snapshot": snapshot.manifest.info.snapshot, "folder": snapshot.folder}
        report = snapshot_report(snapshot, _history(snapshot.folder), arguments.root)
    return report_option.write(arguments.output, report), described


def _history(folder: str) -> list[Entry]:
    """Return the snapshots of the output folder that a snapshot is in; none if it is in none."""
    output, collection, _ = ("", *folder.rstrip("/").rsplit("/", 2))[-3:]
    if collection != SNAPSHOTS:
        return []
    return list_snapshots(output, datetime.now(UTC), parse_duration(DEAD_AFTER))
