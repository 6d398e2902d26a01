"""The ``featureid`` command: finds the command that is asked for and runs it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol

from featureid import __version__
from featureid.cli import console
from featureid.cli.quiet import quiet_libraries

# Command, of one word or two -> its module and one line of help. A module is imported only when its
# command runs: Beam alone takes a second to import.
COMMANDS = {
    "embed": ("embed", "embed images into a new published snapshot"),
    "plan": ("plan", "estimate time, memory and output size of an embed run"),
    "inspect": ("inspect", "show what a snapshot holds"),
    "verify": ("verify", "check every byte of a snapshot"),
    "snapshots": ("snapshots", "list the snapshots of an output folder and what changed"),
    "diff": ("diff", "show what differs between two snapshots"),
    "prune": ("prune", "delete old snapshots and leftovers of failed runs"),
    "export": ("export", "write a snapshot as npy, Parquet, FAISS index, ..."),
    "import": ("import_vectors", "make a snapshot of vectors from another program"),
    "compare": ("compare", "compare two images or faces"),
    "search": ("search", "find the images in snapshots that are most like others"),
    "match": ("match", "search for all rows of a snapshot in another, with Beam"),
    "index": ("index", "make searches faster"),
    "identify": ("identify", "name the people in images by pictures of known people"),
    "duplicates": ("duplicates", "group the images of a snapshot that look alike"),
    "group": ("group", "group the duplicates of a snapshot of any size, with Beam"),
    "report": ("report", "show a snapshot, or a result, as a page to look at"),
    "evaluate": ("evaluate", "measure how well feature IDs tell classes or people apart"),
    "calibrate": ("calibrate", "find the threshold for a false-accept rate on one's own images"),
    "train": ("train", "train a model on labeled images"),
    "faces": ("faces", "show which faces are found in an image"),
    "models": ("models", "list, describe, add, check and remove models"),
    "models describe": ("models_describe", "describe a model"),
    "models add": ("models_add", "make a model out of an ONNX, LiteRT or Keras file"),
    "models check": ("models_check", "try a model in a process of its own"),
    "models remove": ("models_remove", "delete an added model"),
    "worker-pool": ("worker_pool", "start workers for a runner (EXTERNAL environment)"),
}


class Command(Protocol):
    """What the module of a command provides."""

    def make_parser(self, prog: str) -> console.Parser:
        """Return the parser of the command line; ``prog`` is how help texts call the command."""
        ...

    def run(self, argv: Sequence[str], prog: str) -> int:
        """Run the command and return its exit status."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return console.run_command(lambda: _dispatch(arguments))


def run_script(command: str) -> int:
    """Run one command as a script of its own, ``python pipelines/embed.py --input=…``."""
    prog = f"python {sys.argv[0]}"
    return console.run_command(lambda: _run(command, sys.argv[1:], prog))


def load_command(name: str) -> Command:
    """Import and return the module of a command."""
    module: Command = importlib.import_module(f"featureid.cli.{COMMANDS[name][0]}")
    return module


def make_parser() -> console.Parser:
    """Return the parser of ``featureid`` itself, which knows the names of the commands."""
    parser = console.Parser(
        prog="featureid",
        description="Turn image collections into compact, comparable feature IDs.",
        epilog="Run `featureid COMMAND --help` for details.",
    )
    parser.add_argument("--version", action="version", version=f"featureid {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, description) in COMMANDS.items():
        if " " not in name:
            commands.add_parser(name, help=description, add_help=False)
    return parser


def find_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command that a command line names, and what follows it.

    Raises:
        UsageError: there is no such command.
    """
    command: str = make_parser().parse_args(arguments[:1]).command
    words = " ".join(arguments[:2])
    return (words, [*arguments[2:]]) if words in COMMANDS else (command, [*arguments[1:]])


def _dispatch(arguments: list[str]) -> int:
    command, rest = find_command(arguments)
    return _run(command, rest, f"featureid {command}")


def _run(command: str, arguments: list[str], prog: str) -> int:
    # A pool shows what its workers write.
    quiet = contextlib.nullcontext() if command == "worker-pool" else quiet_libraries(arguments)
    with quiet:
        # Before anything is imported that logs as it is imported, as Beam does.
        console.set_up_log("warning")
        return load_command(command).run(arguments, prog)


if __name__ == "__main__":
    sys.exit(main())
