"""The options about faces, shared by every command that has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import get_args

from featureid.images import DETECTORS, FaceSettings
from featureid.images.detectors import DEFAULT_DETECTOR
from featureid.images.face_finder import DEFAULT_MIN_FACE, FaceChoice, NoFace


def add_arguments(
    parser: argparse.ArgumentParser, choices: Sequence[str] = get_args(FaceChoice)
) -> None:
    """Add the options about faces; ``choices`` are those of ``--faces``, the default first."""
    group = parser.add_argument_group("faces", "For face models.")
    add = group.add_argument
    add("--faces", dest="choose", choices=choices, help=f"which faces; default: {choices[0]}")
    add(
        "--detector",
        choices=DETECTORS,
        help=f"face detector; default: {DEFAULT_DETECTOR}",
    )
    add("--detector-model", metavar="FILE", help="ONNX file for yunet; default: in the cache")
    add(
        "--min-face",
        type=int,
        metavar="PX",
        help=f"ignore smaller faces; default: {DEFAULT_MIN_FACE}",
    )
    add(
        "--no-face",
        choices=get_args(NoFace),
        help="if no face is found: fail the image, or embed all of it; default: skip",
    )


def settings(
    arguments: argparse.Namespace, default: FaceSettings | None = None
) -> FaceSettings | None:
    """Return the faces that a parsed command line asks for.

    Args:
        arguments: the command line.
        default: what its options change; None for the defaults of :class:`FaceSettings`, or for
            None if there are no options.

    Raises:
        UsageError: a value is out of range.
    """
    given = {
        field.name: value
        for field in fields(FaceSettings)
        if (value := getattr(arguments, field.name, None)) is not None
    }
    if default is not None:
        return replace(default, **given)
    return FaceSettings(**given) if given else None
