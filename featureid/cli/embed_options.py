"""The options of ``featureid embed`` and ``featureid plan``."""

from __future__ import annotations

import argparse
from typing import get_args

from featureid.cli import console, face_options
from featureid.embedding import DEFAULT_BATCH_SIZE, EmbedSettings
from featureid.errors import UsageError
from featureid.images import DecodeLimits
from featureid.inputs import InputSource
from featureid.jobs.beam_options import parse_hints
from featureid.jobs.options import EmbedOptions, RefreshOptions
from featureid.models import BACKENDS, DEFAULT_BACKEND
from featureid.refresh import Check, RefreshPolicy
from featureid.storage.records import DTYPES

_LIMITS = DecodeLimits()


def make_parser(prog: str, description: str) -> console.CommandParser:
    """The parser of this pipeline's own options."""
    parser = console.CommandParser(
        prog=prog,
        description=description,
        epilog="Beam's own options (--runner, --direct_num_workers, ...) may be added.",
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="folder (recursive), glob, or image; or a URI")
    add("--input", action="append", default=[], metavar="INPUT", help="the same, as an option")
    add("--manifest", metavar="FILE", help="text, .csv, .tsv or .parquet file that lists images")
    add("--column", default="path", help="of the manifest, where it has any; default: %(default)s")
    add("--strip-prefix", default="", metavar="PREFIX", help="taken off paths to make image keys")
    add("--output", default="", metavar="DIR", help="where snapshots are kept")
    add("--model", default="image", metavar="NAME|FILE", help="default: %(default)s")
    add("--num-shards", type=int, metavar="N", help="files to write; default: about 50 MB each")
    add("--dtype", choices=DTYPES, default="float32", help="as stored; default: %(default)s")
    add(
        "--max-failure-rate",
        type=float,
        default=1.0,
        metavar="R",
        help="exit with 3 if a larger share of the images fails; default: %(default)s",
    )
    _add_refresh_arguments(parser)
    add("--backend", choices=BACKENDS, default=DEFAULT_BACKEND, help="default: %(default)s")
    add("--threads", type=int, default=0, metavar="N", help="a process; default: all cores")
    add("--batch-size", type=int, default=DEFAULT_BATCH_SIZE, metavar="N", help="images a batch")
    add("--max-bytes", type=int, default=_LIMITS.max_bytes, metavar="N", help="of an image file")
    add("--max-pixels", type=int, default=_LIMITS.max_pixels, metavar="N", help="of an image")
    face_options.add_arguments(parser)
    add(
        "--embed-hint",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Beam's resource hint for workers that embed, such as min_ram=8GB; may be repeated",
    )
    add("--no-wait", action="store_true", help="submit and return without waiting")
    return parser


def embed_options(arguments: argparse.Namespace) -> EmbedOptions:
    """The options of a run from its parsed command line.

    Raises:
        UsageError: a value is out of range, or there is no input.
    """
    common = {"strip_prefix": arguments.strip_prefix, "exclude": arguments.output}
    sources = [InputSource(path, **common) for path in (*arguments.inputs, *arguments.input)]
    if arguments.manifest is not None:
        sources.append(
            InputSource(arguments.manifest, manifest=True, column=arguments.column, **common)
        )
    if not 0 <= arguments.max_failure_rate <= 1:
        raise UsageError(f"--max-failure-rate is {arguments.max_failure_rate}; give 0 to 1")
    return EmbedOptions(
        sources=tuple(sources),
        output=arguments.output,
        model=arguments.model,
        num_shards=arguments.num_shards,
        dtype=arguments.dtype,
        settings=EmbedSettings(
            backend=arguments.backend,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            limits=DecodeLimits(arguments.max_pixels, arguments.max_bytes),
            faces=face_options.settings(arguments),
        ),
        refresh=_refresh_options(arguments),
        hints=parse_hints(arguments.embed_hint),
    )


def _add_refresh_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`_refresh_options` reads."""
    add, default = parser.add_argument, RefreshPolicy()
    add("--previous", default="", metavar="auto|DIR", help="carry over what is unchanged since")
    add("--check", choices=get_args(Check), default=default.check, help="default: %(default)s")
    add("--retry-failed", action="store_true", help="try unchanged images that failed again")
    add("--re-embed", action="store_true", help="embed unchanged images, too")
    add(
        "--max-deleted",
        type=float,
        default=default.max_deleted,
        metavar="R",
        help="stop if a larger share of the previous images is gone; default: %(default)s",
    )


def _refresh_options(arguments: argparse.Namespace) -> RefreshOptions:
    """The options from the parsed command line.

    Raises:
        UsageError: a value is out of range or contradicts another.
    """
    policy = RefreshPolicy(
        arguments.check, arguments.retry_failed, arguments.re_embed, arguments.max_deleted
    )
    return RefreshOptions(arguments.previous, policy)
