"""The options of a nightly run: which snapshot to carry over from, and what counts as changed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import get_args

from featureid.errors import UsageError
from featureid.refresh import Check, RefreshPolicy, check_same_model
from featureid.storage import files
from featureid.storage.carry import PreviousSnapshot
from featureid.storage.records import ModelInfo
from featureid.storage.snapshot import current_snapshot, find_snapshot, read_manifest

#: The value of ``--previous`` that means the current snapshot of the output, if there is one.
AUTO = "auto"


@dataclass(frozen=True)
class RefreshOptions:
    """What to carry over from where.

    Attributes:
        previous: ``auto``, an output folder or a snapshot's folder; "" for a full run.
        policy: what counts as unchanged.
    """

    previous: str = ""
    policy: RefreshPolicy = field(default_factory=RefreshPolicy)

    def __post_init__(self) -> None:
        if not self.previous and self.policy != RefreshPolicy():
            raise UsageError(
                "--check, --retry-failed, --re-embed and --max-deleted compare with a previous "
                "snapshot; add --previous auto"
            )


def add_refresh_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`refresh_options` reads."""
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


def refresh_options(arguments: argparse.Namespace) -> RefreshOptions:
    """The options from the parsed command line.

    Raises:
        UsageError: a value is out of range or contradicts another.
    """
    policy = RefreshPolicy(
        arguments.check, arguments.retry_failed, arguments.re_embed, arguments.max_deleted
    )
    return RefreshOptions(arguments.previous, policy)


def find_previous(
    options: RefreshOptions, output: str, model: ModelInfo
) -> PreviousSnapshot | None:
    """The snapshot to carry over from; None for a full run.

    Raises:
        UsageError: it is ``auto``, and there is no output.
        MixedModelsError: it is of another model.
        StorageError: it cannot be read, or its rows do not fit into this run's snapshot.
    """
    if not options.previous:
        return None
    place = options.previous
    if place == AUTO and not output:
        raise UsageError("--previous auto is the current snapshot of --output; name that, too")
    if place == AUTO:
        newest = current_snapshot(output)
        if newest is None:
            return None
        place = output
    folder = files.absolute(find_snapshot(place))  # workers know no current folder
    previous = PreviousSnapshot(folder, read_manifest(folder))
    if not options.policy.re_embed:
        check_same_model(previous.manifest.info.model, model, folder)
        previous.check_columns(model)
    return previous
