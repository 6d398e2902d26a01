"""``featureid models``: list the known models, or describe and build one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featureid.cli import console
from featureid.models import ModelBundle, known_models, resolve_model


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="List the known models, or describe one, building it if needed."
    )
    parser.add_argument("model", nargs="?", metavar="NAME|FILE", help="a model to describe")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """List the known models, or describe (and if needed build) one; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if arguments.model is not None:
        described = _describe(resolve_model(arguments.model))
        lines = [f"{name:<21}{value}" for name, value in described.items()]
        console.print_result(described, arguments.json, lines)
        return console.DONE
    models = [
        {
            "name": model.name,
            "description": model.description,
            "license": model.license,
            "digest": model.digest,
            "path": str(model.path),
            "built": model.path.exists(),
        }
        for model in known_models()
    ]
    lines = [
        f"{model['name']:<10}{model['description']} ({model['license']}); "
        + (f"built: {model['path']}" if model["built"] else "built on first use")
        for model in models
    ]
    console.print_result({"models": models}, arguments.json, lines)
    return console.DONE


def _describe(bundle: ModelBundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "architecture": bundle.architecture,
        "dimension": bundle.dimension,
        "native_dimension": bundle.native_dimension,
        "digest": bundle.digest,
        "network": bundle.network.file,
        "network_bytes": len(bundle.network.data),
        "pooling": bundle.pooling,
        **bundle.statistics,
        "preprocessing": bundle.preprocessing.to_json(),
        "preprocessing_digest": bundle.preprocessing.digest,
        "provenance": bundle.provenance,
        "license": bundle.license,
    }
