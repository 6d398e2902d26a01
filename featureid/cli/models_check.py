"""``featureid models check``: try a model in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.cli import console
from featureid.cli.models import lines_of, trial
from featureid.cli.models_add import add_limits, memory_bytes
from featureid.models.building.check import check_bundle, remember
from featureid.models.zoo import find_bundle

_DESCRIPTION = """Check the structure of a model's network, and run it on made-up images in a
process of its own, with limits on time and memory: all numbers must be finite, differ between
images, and be the same in every run and batch."""


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description=_DESCRIPTION)
    parser.add_argument("model", metavar="NAME|FILE", help="a model's name, or a .fidmodel file")
    add_limits(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Check a model; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    bundle, data = find_bundle(arguments.model)
    tried = check_bundle(bundle, arguments.time_limit, memory_bytes(arguments))
    remember(data)
    found = {"name": bundle.name, "digest": bundle.digest, **trial(tried)}
    console.print_result(found, arguments.json, [*lines_of(found), "nothing wrong was found"])
    return console.DONE
