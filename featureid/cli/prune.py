"""``featureid prune``: delete old snapshots and leftovers of failed runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from featureid.cli import console
from featureid.cli.snapshots import add_output_arguments
from featureid.storage.history import prune


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Delete old snapshots and leftovers of failed runs. The current snapshot, runs "
        "in progress and the snapshots that they carry rows from are kept.",
    )
    add_output_arguments(parser)
    parser.add_argument(
        "--keep", type=int, required=True, metavar="N", help="number of complete snapshots to keep"
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Delete old snapshots and leftovers of failed runs; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    now = datetime.now(UTC)
    removed = prune(arguments.output, arguments.keep, now, arguments.dead_after)
    lines = [*(f"deleted {snapshot}" for snapshot in removed), f"{len(removed)} deleted"]
    console.print_result({"deleted": removed}, arguments.json, "\n".join(lines))
    return console.DONE
