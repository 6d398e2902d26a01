"""``featureid train``: a model of one's own."""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from featureid.atomic import replace_file
from featureid.cli import console
from featureid.errors import ModelError, StorageError, UsageError
from featureid.evaluation.figures import few_classes
from featureid.models import BUNDLE_SUFFIX, write_bundle
from featureid.models.building.check import remember
from featureid.models.folder import check_name
from featureid.storage.records import Failure
from featureid.training.options import PHOTOS, PUBLISHED, Augment, Loss, Mining, TrainOptions
from featureid.training.split import Split

if TYPE_CHECKING:
    from featureid.training.train import Trained

_LOG = logging.getLogger(__name__)

_PACKAGES = ("tensorflow", "keras", "matplotlib")
_PRESETS = {"published": PUBLISHED}
_SHOWN = 5


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Train a model on labeled images, or on photos and edited copies of them.",
    )
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="labeled images: folder with a folder for each class; .csv, .tsv, .jsonl or .parquet "
        "file with the columns path, label and, if you like, split (train, validation or test); or "
        "snapshot of embed --output-layer pooled",
    )
    parser.add_argument(
        "--labels", default="", metavar="FILE", help="table of paths and labels; default: by folder"
    )
    parser.add_argument(
        "--from-snapshot",
        metavar="DIR",
        help="no labels: learn from the photos of a snapshot that edited copies are the same",
    )
    parser.add_argument("--root", default="", metavar="DIR", help="where those photos are now")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .fidmodel to write")
    parser.add_argument("--name", help="of the model; default: that of the file")
    parser.add_argument(
        "--base",
        default=argparse.SUPPRESS,
        metavar="cnn|NAME|FILE",
        help="cnn: the published network, from scratch; or a model whose network stays as it is, "
        "and whose last, linear step is trained; default: image",
    )
    parser.add_argument("--preset", choices=[*_PRESETS], help="options as in the published method")
    _add_training(parser)
    add = parser.add_argument_group("the run").add_argument
    add("--resume", action="store_true", help="continue a training that was interrupted")
    add("--curves", metavar="FILE", help="a .png of loss and validation over the epochs")
    add("--tensorboard", default="", metavar="DIR", help="write events for TensorBoard")
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    defaults = {field.name: field.default for field in fields(TrainOptions)}

    def option(name: str, help: str, **more: Any) -> None:
        default = defaults[name]
        shown = f"{help}; default: {default}"
        kind = {} if "choices" in more else {"type": more.pop("type", type(default))}
        flag = "--" + name.replace("_", "-")
        add(flag, default=argparse.SUPPRESS, help=shown, **kind, **more)

    option("loss", "what is made small", choices=get_args(Loss))
    option("mining", "which triplets of a batch count", choices=get_args(Mining))
    option("margin", "of the triplet loss", metavar="D")
    option("temperature", "of the contrastive loss", metavar="T")
    option("epochs", "at most", metavar="N")
    option("patience", "epochs that are no better until it stops, 0 for all", metavar="N")
    option("batch_size", "images, or random triplets", metavar="N")
    option("images_per_class", "in a batch", metavar="K")
    option("learning_rate", "of Adam", metavar="R")
    option("validation", "share of the classes to watch training by", metavar="S")
    option("test", "share of the classes to judge the result by", metavar="S")
    option("input_size", "pixels on a side, for cnn", metavar="N")
    option("dimension", "of the vectors", metavar="N")
    option("seed", "of everything random", metavar="N")
    option(
        "augment",
        "cnn: how images are varied at random; published: also turned and shifted",
        choices=get_args(Augment),
    )
    add(
        "--raw",
        action="store_true",
        default=argparse.SUPPRESS,
        help="cnn: train on the output as it is, not on unit vectors",
    )


def run(argv: Sequence[str], prog: str) -> int:
    """Train a model; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    options = _options(arguments)
    output = _output(arguments.output)
    if (arguments.data is None) == (arguments.from_snapshot is None):
        raise UsageError(
            "name the images: labeled ones, in folders by class or a table; or `from_snapshot`"
        )
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(f"training needs {', '.join(missing)}; pip install 'featureid[train]'")
    # Here, since TensorFlow takes seconds to import.
    from featureid.training import session
    from featureid.training.curves import curves
    from featureid.training.train import remove_work_folder

    trained, split, failures = _train(arguments, options, output)
    for failure in failures[:_SHOWN]:
        _LOG.warning("%s: %s: %s", failure.key, failure.reason, failure.message)
    data = write_bundle(trained.bundle)
    try:
        replace_file(output, [data])
    except OSError as error:
        raise StorageError(f"cannot write {output}: {error.strerror}") from error
    remember(data)
    if arguments.curves and trained.epochs:
        replace_file(arguments.curves, [curves(trained.epochs)])
    remove_work_folder(output)
    found = session.described(trained, split, failures) | {"path": str(output)}
    lines = _lines(found, trained.after.classes)
    console.print_result(found, arguments.json, lines)
    return console.DONE


def _train(
    arguments: argparse.Namespace, options: TrainOptions, output: Path
) -> tuple[Trained, Split, Sequence[Failure]]:
    from featureid.training import session

    more = (output, arguments.resume, arguments.tensorboard)
    if arguments.from_snapshot is not None:
        photos = session.Photos(arguments.from_snapshot, arguments.root, options.seed)
        with console.counting("photos", len(photos.refs)) as progress:
            return session.train_from_photos(options, photos, *more, progress, _log_epoch)
    images = session.LabeledImages(arguments.data, arguments.labels)
    with console.counting("images", len(images.refs)) as progress:
        return session.train(options, images, *more, progress, _log_epoch)


def _options(arguments: argparse.Namespace) -> TrainOptions:
    given = {
        field.name: getattr(arguments, field.name)
        for field in fields(TrainOptions)
        if hasattr(arguments, field.name) and field.name != "name"
    }
    if given.get("patience") == 0:
        given["patience"] = None
    preset = _PRESETS.get(arguments.preset, {})
    if arguments.from_snapshot is not None:
        if arguments.preset or "base" in given:
            raise UsageError("the base is the model of `from_snapshot`; leave out `base`, `preset`")
        preset = PHOTOS
    name = arguments.name or Path(arguments.output).name.removesuffix(BUNDLE_SUFFIX)
    check_name(name)
    return TrainOptions(**{"name": name, **preset, **given})


def _output(path: str) -> Path:
    output = Path(path)
    if output.suffix != BUNDLE_SUFFIX:
        raise UsageError(f"`output` is {path!r}; it must end in {BUNDLE_SUFFIX}")
    if not output.parent.is_dir():
        raise UsageError(f"`output` is {path!r}, which is in a folder that does not exist")
    return output


def _log_epoch(epoch: int, figures: dict[str, float]) -> None:
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
    _LOG.info("epoch %d: %s", epoch, shown)


def _lines(found: dict[str, Any], test_classes: int) -> Iterator[str]:
    yield ", ".join(f"{count} images for {part}" for part, count in found["parts"].items())
    if found["left_out"]:
        names = ", ".join(found["left_out"][:_SHOWN])
        yield f"{len(found['left_out'])} classes of one image are left out: {names}"
    if found["failed"]:
        yield f"{found['failed']} images cannot be used"
    yield "classes of the test, with intervals of 95 %:"
    for name in ("before", "after"):
        yield f"  {name:6} " + ", ".join(
            f"{figure} {one['value']:.4f} ({one['interval'][0]:.4f} to {one['interval'][1]:.4f})"
            for figure, one in found[name].items()
            if one
        )
    yield from few_classes(test_classes, "test classes")
    yield f"model: {found['path']}"
