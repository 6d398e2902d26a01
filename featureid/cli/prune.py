"""``featureid prune``: delete old snapshots and leftovers of failed runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from featureid.cli import console
from featureid.cli.snapshots import add_output_arguments
from featureid.storage.lifecycle import prune


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
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would be deleted, and delete nothing"
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Delete old snapshots and leftovers of failed runs; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    now = datetime.now(UTC)
    deleted = prune(
        arguments.output, arguments.keep, now, arguments.dead_after, dry_run=arguments.dry_run
    )
    verb = "would be deleted" if arguments.dry_run else "deleted"
    lines = [*(f"{verb}: {snapshot}" for snapshot in deleted), f"{len(deleted)} {verb}"]
    result = {"pruned": deleted, "dry_run": arguments.dry_run}
    console.print_result(result, arguments.json, lines)
    return console.DONE
