"""What ``featureid embed`` and ``featureid plan`` are asked to do, and how it is said."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import get_args

from featureid.embedding import DEFAULT_BATCH_SIZE, EmbedSettings
from featureid.errors import UsageError
from featureid.images import DecodeLimits
from featureid.inputs import InputSource
from featureid.models import BackendKind
from featureid.storage.records import DTYPES
from pipelines import console, face_options
from pipelines.beam_options import parse_hints
from pipelines.previous import RefreshOptions, add_refresh_arguments, refresh_options

_LIMITS = DecodeLimits()
_DESCRIPTION = "Embed images into a new snapshot below --output and publish it."


@dataclass(frozen=True)
class EmbedOptions:
    """What to embed, with which model, and where to.

    Attributes:
        sources: the inputs, at least one.
        output: the folder that holds snapshots; local or a URI.
        model: a known model's name, or the path of a model bundle.
        num_shards: files to spread the rows over; None chooses by the number of images.
        dtype: how vectors are stored, ``float32`` or ``float16``.
        settings: threads, batch size, limits and back end.
        refresh: what is carried over from a previous snapshot.
        hints: Beam's resource hints for the workers that embed, name to value.
    """

    sources: tuple[InputSource, ...]
    output: str
    model: str = "image"
    num_shards: int | None = None
    dtype: str = "float32"
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    refresh: RefreshOptions = field(default_factory=RefreshOptions)
    hints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("no input: name folders, globs or images, or a --manifest")
        if self.num_shards is not None and self.num_shards < 1:
            raise UsageError(f"--num-shards is {self.num_shards}; it must be 1 or more")


def make_parser(prog: str, description: str = _DESCRIPTION) -> argparse.ArgumentParser:
    """The parser of this pipeline's own options."""
    parser = console.Parser(
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
    add_refresh_arguments(parser)
    add("--backend", choices=get_args(BackendKind), default="litert", help="default: %(default)s")
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
    add("--no-wait", action="store_true", help="leave the run to its runner once it is submitted")
    console.add_common_arguments(parser)
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
        refresh=refresh_options(arguments),
        hints=parse_hints(arguments.embed_hint),
    )
