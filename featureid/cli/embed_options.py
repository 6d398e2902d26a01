"""The options of ``featureid embed`` and ``featureid plan``."""

from __future__ import annotations

import argparse
from typing import get_args

from featureid.cli import console, face_options, safeguard_options
from featureid.embedding import DEFAULT_BATCH_SIZE, EmbedSettings
from featureid.errors import UsageError
from featureid.images import DecodeLimits
from featureid.inputs import InputSource
from featureid.jobs.beam_options import parse_hints
from featureid.jobs.options import AUTO, EmbedOptions, Hash, RefreshOptions
from featureid.models import BACKENDS
from featureid.models.bundle import POOLED
from featureid.refresh import Check, RefreshPolicy
from featureid.storage.records import DTYPES

_LIMITS = DecodeLimits()
# What the name of the model gets.
_LAYERS = {"embedding": "", "pooled": POOLED}


def make_parser(prog: str, description: str) -> console.CommandParser:
    """Return the parser of these options; ``description`` is for its help."""
    parser = console.CommandParser(
        prog=prog,
        description=description,
        epilog="Beam's own options (--runner, --direct_num_workers, ...) are accepted as well.",
    )
    _add_inputs(parser)
    _add_output(parser)
    _add_incremental(parser)
    _add_safeguards(parser)
    _add_model(parser)
    face_options.add_arguments(parser)
    _add_run(parser)
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    place = "folder (recursive), glob or image; local path or URI"
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help=place)
    add = parser.add_argument_group("inputs").add_argument
    add("--input", action="append", default=[], metavar="INPUT", help="one more input")
    add(
        "--manifest", metavar="FILE", help="file listing images: text, .csv, .tsv, .jsonl, .parquet"
    )
    add("--column", help="manifest column with the paths; default: path")
    add("--strip-prefix", default="", metavar="DIR", help="folder that image keys start in")
    add("--max-bytes", type=int, default=_LIMITS.max_bytes, metavar="N", help="largest image file")
    add("--max-pixels", type=int, default=_LIMITS.max_pixels, metavar="N", help="largest image")
    add(
        "--max-seconds-per-image",
        type=float,
        default=_LIMITS.max_seconds_per_image,
        metavar="S",
        help="longest time to read and decode an image; default: %(default)s",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("--output", default="", metavar="DIR", help="output folder for snapshots")
    add("--num-shards", type=int, metavar="N", help="shards to write; default: about 50 MB each")
    add("--dtype", choices=DTYPES, default="float32", help="of the vectors; default: %(default)s")
    add(
        "--max-failure-rate",
        type=float,
        default=1.0,
        metavar="R",
        help="publish nothing and exit with status 3 if a larger share of the images fails, or all "
        "of them; default: %(default)s",
    )
    add(
        "--publish-anyway",
        action="store_true",
        help="publish even if more images fail; the exit status is 3 all the same",
    )


def _add_incremental(parser: argparse.ArgumentParser) -> None:
    group, default = parser.add_argument_group("incremental runs"), RefreshPolicy()
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--previous",
        default=AUTO,
        metavar="auto|DIR",
        help="snapshot to carry unchanged rows from; default: auto, the current one of --output",
    )
    which.add_argument(
        "--no-previous",
        dest="previous",
        action="store_const",
        const="",
        help="ignore the previous snapshot, even if it is damaged: embed all images",
    )
    group.add_argument(
        "--check",
        choices=get_args(Check),
        default=default.check,
        help="what decides that an image is unchanged; default: %(default)s",
    )
    group.add_argument(
        "--retry-failed", action="store_true", help="retry unchanged images that failed"
    )
    group.add_argument("--re-embed", action="store_true", help="embed unchanged images as well")


def _add_safeguards(parser: argparse.ArgumentParser) -> None:
    safeguard_options.add_arguments(parser).add_argument(
        "--allow-empty-folders",
        action="store_true",
        help="do not stop if a folder has lost all of its images",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", default="image", metavar="NAME|FILE", help="default: %(default)s")
    add(
        "--output-layer",
        choices=[*_LAYERS],
        default="embedding",
        help="pooled: the network's features, to train on; default: %(default)s",
    )
    add(
        "--backend",
        choices=BACKENDS,
        help="what runs the model; default: onnx, or litert for a model that needs it",
    )
    add(
        "--hash",
        choices=get_args(Hash),
        default=AUTO,
        help="perceptual hash to store beside the vectors; auto: as in the previous snapshot, or "
        "pdq for models of whole images; default: %(default)s",
    )
    add("--threads", type=int, default=0, metavar="N", help="per process; default: one per core")
    add("--batch-size", type=int, default=DEFAULT_BATCH_SIZE, metavar="N", help="images per batch")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runner").add_argument
    add(
        "--embed-hint",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Beam resource hint for workers that embed, such as min_ram=8GB; may be repeated",
    )
    add("--no-wait", action="store_true", help="submit and return without waiting")


def embed_options(arguments: argparse.Namespace) -> EmbedOptions:
    """Return the options of a run from its parsed command line.

    Raises:
        UsageError: a value is out of range, or there is no input.
    """
    common = {"strip_prefix": arguments.strip_prefix, "output": arguments.output}
    sources = [InputSource(path, **common) for path in (*arguments.inputs, *arguments.input)]
    if arguments.manifest is not None:
        column = "path" if arguments.column is None else arguments.column
        sources.append(InputSource(arguments.manifest, manifest=True, column=column, **common))
    elif arguments.column is not None:
        raise UsageError("--column names a column of --manifest; there is no --manifest")
    return EmbedOptions(
        sources=tuple(sources),
        output=arguments.output,
        model=arguments.model + _LAYERS[arguments.output_layer],
        num_shards=arguments.num_shards,
        dtype=arguments.dtype,
        settings=EmbedSettings(
            backend=arguments.backend,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            limits=DecodeLimits(
                arguments.max_pixels, arguments.max_bytes, arguments.max_seconds_per_image
            ),
            faces=face_options.settings(arguments),
        ),
        refresh=_refresh_options(arguments),
        safeguards=safeguard_options.safeguards(arguments),
        hints=parse_hints(arguments.embed_hint),
        hash=arguments.hash,
        max_failure_rate=arguments.max_failure_rate,
        publish_anyway=arguments.publish_anyway,
    )


def _refresh_options(arguments: argparse.Namespace) -> RefreshOptions:
    """Return the options from the parsed command line.

    Raises:
        UsageError: a value is out of range or contradicts another.
    """
    policy = RefreshPolicy(arguments.check, arguments.retry_failed, arguments.re_embed)
    return RefreshOptions(arguments.previous, policy)
