"""``featureid models add``: make a model out of an ONNX, LiteRT or Keras file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import get_args

from featureid.add_model import AddOptions, Reducing, add_model
from featureid.atomic import replace_file
from featureid.cli import console
from featureid.cli.models import described, lines_of, trial
from featureid.errors import StorageError, UsageError
from featureid.images.resize import Interpolation, ResizeMethod
from featureid.models import BUNDLE_SUFFIX, known_models, write_bundle
from featureid.models.building.check import remember
from featureid.models.building.preprocess_config import PixelOptions, Triple, scaled
from featureid.models.features import Pooling
from featureid.models.folder import added_models, keep_bundle
from featureid.models.preprocessing import Channels, Layout

_DESCRIPTION = """Make a model out of a network in a file: check it, try it in a process of its own,
and keep it under a name that every command then accepts as --model. A model is a program; take it
from people whom you trust."""
_SIZE = re.compile(r"(\d{1,4})(?:x(\d{1,4}))?")


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description=_DESCRIPTION)
    parser.add_argument("file", metavar="FILE", help=".onnx, .tflite or .keras")
    add = parser.add_argument_group("model").add_argument
    add("--name", required=True, help="what it is called from now on")
    add(
        "--license",
        "--licence",
        default="not stated",
        metavar="TEXT",
        help="of its weights, as SPDX if known",
    )
    add("--provenance", default="", metavar="TEXT", help="where the weights come from")
    add("--replace", action="store_true", help="replace an added model of this name")
    add("--output", metavar="FILE", help=f"write a {BUNDLE_SUFFIX} file instead of keeping it")
    _add_preprocessing(parser)
    _add_network(parser)
    add_limits(parser)
    return parser


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how images are prepared").add_argument
    add(
        "--preprocess",
        default="",
        metavar="FILE",
        help="preprocessor_config.json of Hugging Face, open_clip_config.json, or timm's "
        "config.json; the options below come before it",
    )
    add("--size", type=_size, metavar="N|HxW", help="of the input; default: what the network fixes")
    add("--resize", choices=get_args(ResizeMethod), help="default: stretch")
    add("--crop-fraction", type=float, metavar="R", help="of shortest, such as 0.875; default: 1")
    add("--interpolation", choices=get_args(Interpolation), help="default: bicubic")
    add("--mean", type=_triple, metavar="R,G,B", help="of pixels from 0 to 1; or one number")
    add("--std", type=_triple, metavar="R,G,B", help="likewise; 1/255 for pixels from 0 to 255")
    add("--channels", choices=get_args(Channels), help="default: rgb")
    add("--face", default="", metavar="arcface112|FILE", help="where landmarks belong in the input")


def _add_network(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the network").add_argument
    add("--layout", choices=("auto", *get_args(Layout)), default="auto", help="default: auto")
    add("--embedding", metavar="OUTPUT", help="output to take; default: the only one")
    add("--pool", choices=get_args(Pooling), help="how tokens become one vector")
    add("--dimension", type=int, metavar="N", help="of the vectors; default: that of the network")
    add("--reduce", choices=get_args(Reducing), help="to N: principal components, or at random")
    add("--quantize", action="store_true", help="compute with 8-bit integers; ONNX only")
    add("--samples", default="", metavar="INPUT", help="images to try it on, for pca and quantize")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit the process in which a model is tried."""
    add = parser.add_argument_group("limits of the trial").add_argument
    add("--time-limit", type=float, metavar="S", help="seconds; default: 120, Keras 900")
    add("--memory-limit", type=float, metavar="GB", help="default: by the size of the file")


def memory_bytes(arguments: argparse.Namespace) -> int | None:
    """Return ``--memory-limit`` in bytes.

    Raises:
        UsageError: a limit is not positive.
    """
    for name in ("time_limit", "memory_limit"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < 1e6:
            raise UsageError(f"`{name}` is {value:g}; it must be positive")
    return None if arguments.memory_limit is None else int(arguments.memory_limit * 1e9)


def run(argv: Sequence[str], prog: str) -> int:
    """Add a model; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    options = _options(arguments)
    _check_target(arguments)
    added = add_model(options)
    data = write_bundle(added.bundle)
    path = Path(arguments.output) if arguments.output else None
    if path is None:
        path = keep_bundle(options.name, data)
    else:
        try:
            replace_file(path, [data])
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
    remember(data)
    found = {**described(added.bundle), **trial(added.tried), "path": str(path)}
    if added.likeness:
        found["quantized_cosine"] = {
            "images": added.likeness.images,
            "median": round(added.likeness.median, 4),
            "lowest": round(added.likeness.lowest, 4),
        }
    console.print_result(found, arguments.json, lines_of(found))
    return console.DONE


def _check_target(arguments: argparse.Namespace) -> None:
    """Refuse a name or file that cannot be given, before anything takes time."""
    if arguments.output:
        if not arguments.output.endswith(BUNDLE_SUFFIX):
            raise UsageError(f"`output` is {arguments.output!r}; it must end in {BUNDLE_SUFFIX}")
        if not Path(arguments.output).parent.is_dir():
            raise UsageError(
                f"`output` is {arguments.output!r}, which is in a folder that does not exist"
            )
        return
    if arguments.name in {model.name for model in known_models()}:
        raise UsageError(f"{arguments.name!r} is a model of featureid; choose another `name`")
    if arguments.name in added_models() and not arguments.replace:
        raise UsageError(
            f"there is a model {arguments.name!r} already; choose another `name`, or replace it "
            "with `replace`"
        )


def _options(arguments: argparse.Namespace) -> AddOptions:
    pixels = PixelOptions(
        size=arguments.size,
        resize=arguments.resize,
        crop_fraction=arguments.crop_fraction,
        interpolation=arguments.interpolation,
        mean=arguments.mean,
        std=arguments.std,
        channels=arguments.channels,
    )
    return AddOptions(
        path=arguments.file,
        name=arguments.name,
        license=arguments.license,
        provenance=arguments.provenance,
        pixels=pixels,
        preprocess=arguments.preprocess,
        layout=None if arguments.layout == "auto" else arguments.layout,
        embedding=arguments.embedding,
        pool=arguments.pool,
        dimension=arguments.dimension,
        reduce=arguments.reduce,
        quantize=arguments.quantize,
        samples=arguments.samples,
        face=arguments.face,
        time_limit=arguments.time_limit,
        memory_limit=memory_bytes(arguments),
    )


def _size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"invalid size {text!r}; expected for example 224")
    height = int(match[1])
    return height, int(match[2] or height)


def _triple(text: str) -> Triple:
    try:
        values = [float(Fraction(part.strip()) * 255) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        values = []
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(
            f"invalid value {text!r}; expected three numbers, such as 0.485,0.456,0.406, or one"
        )
    red, green, blue = values * (3 // len(values))
    return scaled((red, green, blue), 1)
