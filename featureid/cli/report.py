"""``featureid report``: a snapshot as a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from featureid.cli import console, report_option
from featureid.durations import parse_duration
from featureid.reports.snapshot import snapshot_report
from featureid.reports.write import check_report
from featureid.storage.history import Entry, list_snapshots
from featureid.storage.reader import open_snapshot
from featureid.storage.snapshot import SNAPSHOTS

_DEAD_AFTER = parse_duration("72h")


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Write a page that shows a snapshot: its images, its failures, and the runs "
        "before it.",
    )
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
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
    snapshot = open_snapshot(arguments.snapshot)
    line = report_option.write(
        arguments.output, snapshot_report(snapshot, _history(snapshot.folder), arguments.root)
    )
    result = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "report": arguments.output,
    }
    console.print_result(result, arguments.json, [line])
    return console.DONE


def _history(folder: str) -> list[Entry]:
    """Return the snapshots of the output folder that a snapshot is in; none if it is in none."""
    output, collection, _ = ("", *folder.rstrip("/").rsplit("/", 2))[-3:]
    if collection != SNAPSHOTS:
        return []
    return list_snapshots(output, datetime.now(UTC), _DEAD_AFTER)
