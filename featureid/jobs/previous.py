"""The snapshot that an incremental run carries rows from."""

from __future__ import annotations

from dataclasses import replace

from featureid.errors import MixedModelsError
from featureid.jobs.options import AUTO, EmbedOptions
from featureid.refresh import RefreshPolicy, check_dtype
from featureid.storage import files
from featureid.storage.carry import check_can_carry, naming_way_out
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.safeguards import check_current, check_model
from featureid.storage.snapshot import current_snapshot


def find_previous(options: EmbedOptions, model: ModelInfo) -> tuple[Snapshot | None, RefreshPolicy]:
    """Return the snapshot to carry rows from, None for a full run, and what counts as unchanged.

    That is as the options say, or, if the run may be of another model and is, nothing.

    Args:
        options: what to embed; ``output`` may be empty.
        model: of the run.

    Raises:
        MixedModelsError: it, or the current snapshot of the output, is of another model.
        UsageError: it stores vectors in another type.
        StorageError: it cannot be read, or its rows do not fit into this run's snapshot.
    """
    safeguards, policy = options.safeguards, options.refresh.policy
    if options.output:
        check_current(options.output, model, safeguards)
    place = options.refresh.previous
    if place == AUTO:
        has_current = options.output and current_snapshot(options.output) is not None
        place = options.output if has_current else ""
    if not place:
        return None, policy
    with naming_way_out():
        previous = open_snapshot(files.absolute(place))  # workers have another current folder
    try:
        check_model(previous.folder, previous.model, model)
    except MixedModelsError:
        if not safeguards.new_model:
            raise
        policy = replace(policy, check="version", re_embed=True)
    if not policy.re_embed:
        check_dtype(previous.model, model, previous.folder)
        check_can_carry(previous, model)
    return previous, policy
