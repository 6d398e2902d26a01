"""``featureid models remove``: delete an added model."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.cli import console
from featureid.errors import UsageError, did_you_mean
from featureid.models import known_models
from featureid.models.folder import added_models, remove_bundle


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Delete a model that was added. Its snapshots can then no longer be searched "
        "for other images.",
    )
    parser.add_argument("model", metavar="NAME", help="of an added model")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Delete an added model; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    name, added = arguments.model, added_models()
    if name not in added:
        if name in {model.name for model in known_models()}:
            raise UsageError(f"{name!r} comes with featureid; only added models can be removed")
        raise UsageError(f"no model {name!r} was added{did_you_mean(name, added)}")
    remove_bundle(added[name])
    found = {"name": name, "path": str(added[name])}
    console.print_result(found, arguments.json, [f"removed {added[name]}"])
    return console.DONE
