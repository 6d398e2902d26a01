"""``featureid verify``: whether every byte of a snapshot is what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console, metrics_file
from featureid.cli.metrics_file import Report
from featureid.errors import FeatureIdError
from featureid.storage.reader import open_snapshot
from featureid.storage.verify import verify_snapshot


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description="Check every byte of a snapshot.")
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    metrics_file.add_argument(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Check every byte of a snapshot; return the exit status."""
    with metrics_file.reporting("verify", argv, prog) as report:
        report.status = _run(argv, prog, report)
    return report.status


def _run(argv: Sequence[str], prog: str, report: Report) -> int:
    arguments = console.parse(make_parser(prog), argv)
    report.output = arguments.snapshot
    with console.counting("rows", _num_rows(arguments.snapshot)) as count:
        found = verify_snapshot(arguments.snapshot, on_rows=count)
    lines = [problem.message for problem in found.problems]
    verdict = "clean" if found.ok else f"{len(lines)} problems"
    checked = f"{found.num_files} files, {found.rows} rows, {found.bytes} bytes"
    lines.append(f"{found.folder}: {checked}: {verdict}")
    console.print_result({**asdict(found), "ok": found.ok}, arguments.json, lines)
    return console.DONE if found.ok else console.FAILED


def _num_rows(path: str) -> int:
    """Return how many rows there are to check; 0 if that cannot be read."""
    try:
        return open_snapshot(path).num_rows
    except FeatureIdError:
        return 0  # Verifying will say why.
