"""``featureid identify``: name the people in images by pictures of known people."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from featureid.cli import console, face_options, report_option, verdicts
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.evaluation.calibration import SAME, Level, find_calibration
from featureid.images import FaceSettings
from featureid.images.face_finder import FaceChoice, settings_of_line
from featureid.inputs import InputSource, check_sources
from featureid.matching.people import Likeness, People
from featureid.matching.scores import check_comparable
from featureid.model_store import model_of
from featureid.models import ModelBundle, resolve_model
from featureid.queries import Matrix, Query, snapshot_queries, source_queries
from featureid.reports.people import people_report
from featureid.storage.reader import open_snapshot
from featureid.storage.records import Failure, ModelInfo
from featureid.storage.snapshot import is_output

_LOG = logging.getLogger(__name__)


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Name the people in images by pictures of known people."
    )
    add = parser.add_argument
    add(
        "known",
        metavar="KNOWN",
        help="known people: folder with a folder for each or with pictures named after them, or "
        "its snapshot",
    )
    add(
        "unknown",
        nargs="+",
        metavar="UNKNOWN",
        help="whom to name: image, folder of images, glob, or snapshot",
    )
    add(
        "--threshold",
        type=float,
        metavar="T",
        help="lowest score that names somebody; default: that of the calibration",
    )
    verdicts.add_argument(parser)
    add("--model", metavar="NAME|FILE", help="default: that of a snapshot, or else face")
    report_option.add_argument(parser)
    face_options.add_arguments(parser, ("all", "largest", "center", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Identify; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    report_option.check(arguments)
    inputs = _Inputs(arguments)
    known = inputs.read([arguments.known], "largest", relative=True)
    unknown = inputs.read(arguments.unknown, arguments.choose or "all")
    people = People([face.name for face in known], _vectors(known))
    calibration = find_calibration(inputs.model, arguments.calibration, *inputs.snapshots)
    level = calibration.level(SAME) if calibration else None
    cohort = calibration.opened_cohort() if calibration and level else None
    threshold = _threshold(arguments.threshold, inputs.model, level)
    likenesses = people.most_like(_vectors(unknown), cohort) if unknown else []
    results = [
        _result(face, likeness, threshold)
        for face, likeness in zip(unknown, likenesses, strict=True)
    ]
    for failure in inputs.failures:
        _LOG.warning("%s: %s: %s", failure.key, failure.reason, failure.message)
    printed = {
        "results": results,
        "people": people.names,
        "threshold": threshold,
        "failures": [asdict(failure) for failure in inputs.failures],
    }
    lines = [_line(result) for result in results]
    if calibration and level:
        printed["calibration"] = verdicts.described(calibration)
        if threshold == level.threshold:
            printed["false_positive_rate"] = level.far.value
            lines.append(_meaning(level, len(known)))
            lines.append(f"this rests on {calibration.describe()}")
    if arguments.report:
        report = people_report(zip(unknown, likenesses, strict=True), known, threshold)
        lines.append(report_option.write(arguments.report, report))
    console.print_result(printed, arguments.json, lines)
    return console.DONE if results else console.FAILED


class _Inputs:
    """Images and snapshots of one model, as queries; ``failures`` are images without one."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        places = [arguments.known, *arguments.unknown]
        self._snapshots = {place: open_snapshot(place) for place in places if is_output(place)}
        self.snapshots = [*self._snapshots.values()]
        self._first = next(iter(self.snapshots), None)
        self._arguments = arguments
        self.failures: list[Failure] = []
        self._model = self._first.model if self._first else None
        for place, snapshot in self._snapshots.items():
            self._check(snapshot.model, place)

    @property
    def model(self) -> ModelInfo:
        """The model, once something has been read."""
        assert self._model is not None
        return self._model

    @functools.cached_property
    def _bundle(self) -> ModelBundle:
        name = self._arguments.model
        if name is None and self._first is not None:
            return model_of(self._first.folder, self._first.model)
        return resolve_model(name or "face")

    def _check(self, model: ModelInfo, name: str) -> None:
        if self._first is not None:
            check_comparable(self._first.model, self._first.folder, model, name)

    def read(
        self, places: Sequence[str], choose: FaceChoice, relative: bool = False
    ) -> list[Query]:
        """Return the faces, or whole images, in these places.

        Args:
            places: images, folders, globs and snapshots.
            choose: which faces to take of an image.
            relative: whether keys of images in a folder start there.
        """
        found: list[Query] = []
        for place in places:
            if place in self._snapshots:
                found += snapshot_queries(self._snapshots[place])
            else:
                source = InputSource(place, strip_prefix=place if relative else "")
                found += self._of_images(source, choose)
        return found

    def _of_images(self, source: InputSource, choose: FaceChoice) -> Iterator[Query]:
        check_sources([source])
        faces = None
        if self._bundle.preprocessing.face is not None:
            line = self._first.model.faces if self._first else ""
            default = settings_of_line(line) if line else FaceSettings()
            given = face_options.settings(self._arguments, default)
            faces = given and replace(given, choose=choose)
        embedder = Embedder(self._bundle, EmbedSettings(faces=faces))
        self._model = self._model or embedder.info
        self._check(embedder.info, source.path)
        try:
            for item in source_queries([source], embedder, hashed=False):
                if isinstance(item, Failure):
                    self.failures.append(item)
                else:
                    yield item
        finally:
            embedder.close()


def _vectors(faces: Sequence[Query]) -> Matrix:
    none = np.empty((0, 0), np.float32)
    return np.concatenate([face.vectors for face in faces]) if faces else none


def _threshold(given: float | None, model: ModelInfo, level: Level | None) -> float:
    if given is None and level is None:
        raise UsageError(
            f"no threshold has been measured for the model {model.name!r} with these faces; give "
            "one as `threshold`, or a `calibration`"
        )
    if given is None:
        assert level is not None
        return level.threshold
    if not -1 <= given <= 1:
        raise UsageError(f"`threshold` is {given}; a score is from -1 to 1")
    return given


def _result(face: Query, likeness: Likeness, threshold: float) -> dict[str, Any]:
    result: dict[str, Any] = {"query": face.name}
    if face.face is not None:
        result["face"] = face.face
    return {
        **result,
        "person": likeness.person if likeness.score >= threshold else None,
        "nearest": likeness.person,
        "key": likeness.key,
        "score": round(likeness.score, 6),
    }


def _line(result: dict[str, Any]) -> str:
    face = f", face {result['face']}" if "face" in result else ""
    person = result["person"] or f"unknown; most like {result['nearest']}"
    return f"{result['query']}{face}: {person}, {result['score']:.4f}"


def _meaning(level: Level, faces: int) -> str:
    wrong = 1 - (1 - level.far.value) ** faces
    return (
        f"{level.threshold:.4g} or more names a person: {100 * level.tar.value:.0f} % of all pairs "
        f"of one person score so high, and {100 * level.far.value:.2g} % of those of different "
        f"people, so that of 100 strangers about {100 * wrong:.2g} are taken for one of {faces} "
        "known faces"
    )
