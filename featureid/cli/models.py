"""``featureid models``: list the models that can be named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featureid.cli import console
from featureid.errors import ModelError
from featureid.models import ModelBundle, known_models
from featureid.models.building.trial import Tried
from featureid.models.bundle import load_bundle
from featureid.models.folder import added_models, models_folder

_COMMANDS = ("list", "describe", "add", "check", "remove")


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="List the models that have a name.",
        epilog="Run `featureid models COMMAND --help` for details.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=_COMMANDS,
        metavar="COMMAND",
        help="list (the default), describe, add, check or remove",
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """List the models; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    models = [*_known(), *_added()]
    lines = [
        *(
            f"{model['name']:<12}{model['description']} ({model['license']}); "
            + (str(model["path"]) if model["built"] else "built on first use")
            for model in models
        ),
        f"added models are kept in {models_folder()}",
    ]
    found = {"models": models, "models_folder": str(models_folder())}
    console.print_result(found, arguments.json, lines)
    return console.DONE


def _known() -> list[dict[str, Any]]:
    return [
        {
            "name": model.name,
            "description": model.description,
            "license": model.license,
            "digest": model.digest,
            "path": str(model.path),
            "built": model.path.exists(),
            "known": True,
        }
        for model in known_models()
    ]


def _added() -> list[dict[str, Any]]:
    """Return the added models; one that cannot be read says why, and hides no other."""
    models = []
    for name, path in added_models().items():
        try:
            bundle = load_bundle(path)
        except ModelError as error:
            text, license, digest = f"cannot be used: {error}", "not known", ""
        else:
            kind = "faces" if bundle.preprocessing.face else "any image"
            text = f"{kind}: {bundle.architecture}, {bundle.dimension} dimensions"
            license, digest = bundle.license, bundle.digest
        models.append(
            {
                "name": name,
                "description": text,
                "license": license,
                "digest": digest,
                "path": str(path),
                "built": True,
                "known": False,
            }
        )
    return models


def described(bundle: ModelBundle) -> dict[str, Any]:
    """Return what ``describe`` and ``add`` say about a model."""
    return {
        "name": bundle.name,
        "architecture": bundle.architecture,
        "dimension": bundle.dimension,
        "native_dimension": bundle.native_dimension,
        "digest": bundle.digest,
        "network": bundle.network.file,
        "network_bytes": len(bundle.network.data),
        "input": {
            "layout": bundle.network.input.layout,
            "dtype": bundle.network.input.dtype,
            "batch": bundle.network.input.batch,
        },
        "pooling": bundle.pooling,
        **bundle.statistics,
        "preprocessing": bundle.preprocessing.to_json(),
        "preprocessing_digest": bundle.preprocessing.digest,
        "provenance": bundle.provenance,
        "license": bundle.license,
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return names and values as lines."""
    return [f"{name:<21}{_text(value)}" for name, value in found.items()]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return "any" if value is None else str(value)


def trial(tried: Tried) -> dict[str, Any]:
    """Return what ``add`` and ``check`` say about a trial."""
    return {
        "images_tried": tried.images,
        "ms_per_image": round(tried.ms_alone, 2),
        "ms_per_image_batched": round(tried.ms_together, 2),
        "load_s": round(tried.load_s, 2),
        "peak_mb": round(tried.peak_mb),
    }
