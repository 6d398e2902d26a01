"""The ``featureid`` command: finds the command that is asked for and runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from featureid import __version__
from pipelines import console

# Command -> where it is, imported only when asked for: Beam takes a second to import.
COMMANDS = {
    "embed": ("pipelines.embed:run_command_line", "embed images into a new published snapshot"),
    "inspect": ("pipelines.snapshots:run_inspect", "show what a snapshot holds"),
    "verify": ("pipelines.snapshots:run_verify", "check every byte of a snapshot"),
    "export": ("pipelines.exchange:run_export", "write a snapshot as npy, Parquet, FAISS, ..."),
    "import": ("pipelines.exchange:run_import", "make a snapshot of another program's vectors"),
    "compare": ("pipelines.compare:run_command_line", "tell how alike two pictures or faces are"),
    "faces": ("pipelines.faces:run_command_line", "show which faces are found in a picture"),
    "plan": ("pipelines.plan:run_command_line", "foretell what embedding will do and cost"),
    "snapshots": ("pipelines.housekeeping:run_snapshots", "list snapshots and what changed"),
    "prune": ("pipelines.housekeeping:run_prune", "remove old snapshots and rubble"),
    "diff": ("pipelines.diff:run_command_line", "compare two snapshots"),
    "models": ("pipelines.models:run_command_line", "list the models, or describe one"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.run_command(lambda: _dispatch(arguments))


def _dispatch(arguments: list[str]) -> int:
    # Before anything is imported that logs as it is imported, as Beam does.
    console.set_up_log("warning")
    parser = console.Parser(
        prog="featureid",
        description="Turn image collections into compact, comparable feature IDs.",
        epilog="featureid COMMAND --help tells more of each command.",
    )
    parser.add_argument("--version", action="version", version=f"featureid {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, description) in COMMANDS.items():
        commands.add_parser(name, help=description, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    module, _, function = COMMANDS[command][0].partition(":")
    run_command = getattr(importlib.import_module(module), function)
    status: int = run_command(arguments[1:], prog=f"featureid {command}")
    return status


if __name__ == "__main__":
    sys.exit(main())
