"""The option ``--report``: the result of a command as a page to look at."""

from __future__ import annotations

import argparse

from featureid.cli import console
from featureid.reports.page import Report
from featureid.reports.write import check_report, write_report


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--report", metavar="FILE.html", help="write the result as a page to look at, with pictures"
    )


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where moved images are."""
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="for the pictures of a report: the folder that the images were moved to",
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse a report that cannot be written, before the work that it shows.

    Raises:
        UsageError: as :func:`featureid.reports.write.check_report`.
    """
    if arguments.report:
        check_report(arguments.report)


def write(place: str, report: Report) -> str:
    """Write a report; return a line that says where it is.

    Raises:
        StorageError: it cannot be written.
    """
    with console.counting("pictures") as progress:
        write_report(place, report, progress)
    return f"report: {place}"
