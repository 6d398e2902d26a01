"""The options about the snapshot that a run replaces, shared by every command that has them."""

from __future__ import annotations

import argparse

from featureid.storage.safeguards import DEFAULT_LIMIT, DeletionLimit, Safeguards


def add_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that every command has, and return their group."""
    group = parser.add_argument_group("replacing the current snapshot")
    group.add_argument(
        "--new-model",
        action="store_true",
        help="replace vectors of another model, preprocessing or choice of faces",
    )
    group.add_argument(
        "--max-deleted",
        metavar="N|P%",
        help="stop if more images are missing, for example 100 or 5%%; default: "
        f"{DEFAULT_LIMIT.images} or {DEFAULT_LIMIT.percent:g}%%, whichever is more",
    )
    return group


def safeguards(arguments: argparse.Namespace) -> Safeguards:
    """Return what a parsed command line allows.

    Raises:
        UsageError: a value is out of range.
    """
    text = arguments.max_deleted
    return Safeguards(
        new_model=arguments.new_model,
        max_deleted=DEFAULT_LIMIT if text is None else DeletionLimit.parse(text),
        allow_empty_folders=getattr(arguments, "allow_empty_folders", False),
    )
