"""``featureid models describe``: show what a model is, building it if needed."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.cli import console
from featureid.cli.models import described, lines_of
from featureid.models.zoo import find_bundle


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Describe a model. A known one is built if it is not built yet."
    )
    parser.add_argument("model", metavar="NAME|FILE", help="a model's name, or a .fidmodel file")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Describe a model; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    bundle, _ = find_bundle(arguments.model)  # which does not run it
    found = described(bundle)
    console.print_result(found, arguments.json, lines_of(found))
    return console.DONE
