"""``featureid evaluate``: measure how well feature IDs tell classes or people apart."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from featureid.cli import console, face_options, report_option
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.evaluation.figures import (
    DEFAULT_K,
    Evaluation,
    Figure,
    HardPair,
    Rate,
    evaluate,
    evaluate_pairs,
    few_classes,
)
from featureid.evaluation.labels import classes_of_pairs, read_pairs
from featureid.evaluation.report import check_matplotlib, write_plots
from featureid.evaluation.roc import LEAST_FALSE_ACCEPTS
from featureid.evaluation.trials import Images
from featureid.inputs import ImageRef
from featureid.labeled import Embedded, LabeledSource, labeled, of_images, of_snapshot
from featureid.models import resolve_model
from featureid.reports.evaluation import evaluation_report
from featureid.storage import files
from featureid.storage.records import Failure, ModelInfo


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Measure how well feature IDs tell classes of images, or people, apart.",
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        help="labeled images: folder with a folder for each class; .csv, .tsv, .jsonl or .parquet "
        "file with the columns path and label; or snapshot",
    )
    add(
        "--labels",
        metavar="FILE",
        help="table with the columns path and label; default: an image's folder is its class",
    )
    add(
        "--pairs",
        metavar="FILE",
        help="compare these pairs only: LFW's format, or table with the columns first, second and "
        "same",
    )
    add("--model", metavar="NAME|FILE", help="default: that of a snapshot, or else image")
    add(
        "-k",
        type=int,
        default=DEFAULT_K,
        metavar="K",
        help="nearest images that precision looks at; default: %(default)s",
    )
    add(
        "--report",
        metavar="DIR",
        help="write the result into DIR: index.html, a page to look at; report.json; plots",
    )
    face_options.add_arguments(parser, ("largest", "center", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Evaluate; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if arguments.report:
        check_matplotlib()
    source = LabeledSource(arguments.data, arguments.labels or "")
    if source.snapshot is not None and arguments.model:
        raise UsageError("a snapshot has a model of its own; leave out `model`")
    found, images, failures, model = _evaluated(source, arguments)
    result = {
        "images": len(images.keys),
        "embedded": images.embedded,
        "failed": len(failures),
        "failures_by_reason": dict(sorted(Counter(f.reason for f in failures).items())),
        **_described(found),
        "failures": [asdict(failure) for failure in failures],
        "model": asdict(model),
    }
    lines = [*_lines(result, found)]
    if arguments.report:
        files.make_folder(arguments.report)
        write_plots(arguments.report, found)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        files.write_atomic(files.join(arguments.report, "report.json"), [text.encode()])
        page = evaluation_report(found, source.locate)
        lines.append(report_option.write(files.join(arguments.report, "index.html"), page))
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _evaluated(
    source: LabeledSource, arguments: argparse.Namespace
) -> tuple[Evaluation, Images, list[Failure], ModelInfo]:
    """Return the evaluation, the images that count, those of them that failed, and the model."""
    if arguments.pairs is None:
        labels = source.labels()
        embedded, model = _embedded(source, {*filter(labels.get, labels)}, arguments)
        images, failures = labeled(embedded, labels)
        with console.counting("images", images.embedded) as progress:
            return evaluate(images, arguments.k, progress=progress), images, failures, model
    if arguments.labels is not None:
        raise UsageError("`pairs` say which images are the same; leave out `labels`")
    pairs = read_pairs(arguments.pairs)
    first, second = source.named(pairs)
    embedded, model = _embedded(source, {*first, *second}, arguments)
    images, failures = labeled(embedded, classes_of_pairs(first, second, pairs.same.tolist()))
    place = {key: number for number, key in enumerate(images.keys)}
    rows = np.array([[place[key] for key in side] for side in (first, second)]).T
    return evaluate_pairs(images, rows, pairs.same, pairs.folds), images, failures, model


def _embedded(
    source: LabeledSource, wanted: set[str], arguments: argparse.Namespace
) -> tuple[Embedded, ModelInfo]:
    """Return the images, of those of a folder or table all that are wanted, and their model."""
    if source.snapshot is not None:
        return of_snapshot(source.snapshot), source.snapshot.model
    every: list[ImageRef | Failure] = [*source.refs, *source.failures]
    listed = [item for item in every if item.key in wanted]
    settings = EmbedSettings(faces=face_options.settings(arguments))
    bundle = resolve_model(arguments.model or "image")
    with (
        closing(Embedder(bundle, settings)) as embedder,
        console.counting("images", len(listed)) as progress,
    ):
        return of_images(listed, embedder, progress), embedder.info


def _described(found: Evaluation) -> dict[str, Any]:
    return {
        "classes": found.classes,
        "pairs": found.same_pairs + found.different_pairs,
        "same_pairs": found.same_pairs,
        "different_pairs": found.different_pairs,
        "auc": _figure(found.auc),
        "eer": _figure(found.eer),
        "tar": {f"{rate.far:g}": _rate(rate) for rate in found.rates},
        "accuracy": _figure(found.accuracy),
        "deviation": _rounded(found.deviation),
        "folds": found.folds,
        "rank1": _figure(found.rank1),
        "precision": _figure(found.precision),
        "precision_k": found.k,
        "hardest_same": [*map(_hard, found.hardest_same)],
        "hardest_different": [*map(_hard, found.hardest_different)],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    return None if figure is None else figure.to_json()


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        **(_figure(rate.tar) or {"value": None, "interval": None}),
        "threshold": _rounded(rate.threshold),
        "false_accepts": round(rate.false_accepts, 2),
    }


def _hard(pair: HardPair) -> dict[str, Any]:
    return {"pair": [pair.first, pair.second], "score": _rounded(pair.score)}


def _lines(result: dict[str, Any], found: Evaluation) -> Iterator[str]:
    yield (
        f"{result['images']} images of {found.classes} classes: {found.same_pairs} pairs of one "
        f"class, {found.different_pairs} of two"
    )
    if result["failed"]:
        reasons = ", ".join(f"{n} {reason}" for reason, n in result["failures_by_reason"].items())
        yield f"{result['failed']} without a feature ID, which count as rejected: {reasons}"
    yield f"AUC {_text(found.auc)}, EER {_text(found.eer)}"
    yield "FAR      TAR                        threshold"
    yield from map(_rate_line, found.rates)
    if found.accuracy is not None:
        yield (
            f"accuracy {_text(found.accuracy)}, deviation over {found.folds} folds "
            f"{found.deviation:.4f}"
        )
    if found.rank1 is not None and found.precision is not None:
        yield f"rank-1 {_text(found.rank1)}, precision at {found.k} {_text(found.precision)}"
    yield from few_classes(found.classes)
    for name, pairs in (("one class", found.hardest_same), ("two", found.hardest_different)):
        yield f"hardest pairs of {name}:"
        yield from (f"  {pair.score:7.4f}  {pair.first}  {pair.second}" for pair in pairs)


def _text(figure: Figure) -> str:
    low, high = figure.interval
    return f"{figure.value:.4f} ({low:.4f} to {high:.4f})"


def _rate_line(rate: Rate) -> str:
    if rate.tar is None:
        return (
            f"{rate.far:<8g} not given: {rate.false_accepts:.2g} false accepts are expected, fewer "
            f"than {LEAST_FALSE_ACCEPTS}; compare more pairs of different classes"
        )
    weak = f"  weak: about {rate.false_accepts:.0f} false accepts" if rate.is_weak else ""
    return f"{rate.far:<8g} {_text(rate.tar):26} {rate.threshold:.4f}{weak}"
