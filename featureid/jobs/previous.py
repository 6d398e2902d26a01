"""The snapshot that an incremental run carries rows from."""

from __future__ import annotations

from dataclasses import replace

from featureid.errors import FeatureIdError, MixedModelsError
from featureid.jobs.options import AUTO, EmbedOptions, Hash
from featureid.refresh import RefreshPolicy, check_stored
from featureid.storage import files
from featureid.storage.carry import check_can_carry, naming_way_out
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import PDQ, ModelInfo, first_difference
from featureid.storage.safeguards import check_current, check_model
from featureid.storage.snapshot import Current, read_current


def find_previous(
    options: EmbedOptions, model: ModelInfo
) -> tuple[Snapshot | None, RefreshPolicy, str]:
    """Return the snapshot to carry rows from, what counts as unchanged, and the hash to store.

    The snapshot is None for a full run. What counts as unchanged is as the options say, or, if the
    run may be of another model and is, nothing. The hash is ``pdq``, or "" for none.

    Args:
        options: what to embed; ``output`` may be empty.
        model: of the run; its ``hash`` does not count.

    Raises:
        MixedModelsError: it, or the current snapshot of the output, is of another model.
        UsageError: it stores vectors in another type, or has another hash.
        StorageError: it cannot be read, or its rows do not fit into this run's snapshot.
    """
    safeguards, policy = options.safeguards, options.refresh.policy
    if options.output:
        check_current(options.output, model, safeguards)
    place = options.refresh.previous
    if place == AUTO:
        current = read_current(options.output) if options.output else Current(None, None)
        # A damaged one is an error, not a reason to embed every image again.
        place = options.output if current.snapshot or current.fault else ""
    if not place:
        return None, policy, _hash(options.hash, model, None)
    with naming_way_out():
        previous = open_snapshot(files.absolute(place))  # workers have another current folder
    try:
        check_model(previous.folder, previous.model, model)
    except MixedModelsError:
        if not safeguards.new_model:
            raise
        policy = replace(policy, check="version", re_embed=True)
    model = replace(model, hash=_hash(options.hash, model, previous.model))
    if not policy.re_embed:
        check_stored(previous.model, model, previous.folder)
        check_can_carry(previous, model)
    return previous, policy, model.hash


def keeps_rows(previous: Snapshot | None, policy: RefreshPolicy, model: ModelInfo) -> bool:
    """Return whether rows of the previous snapshot may stand beside the new ones of a run.

    Raises:
        StorageError: the previous snapshot cannot be read.
    """
    if previous is None:
        return False
    if policy.re_embed:  # Otherwise, that has been checked.
        try:
            check_model(previous.folder, previous.model, model)
            check_stored(previous.model, model, previous.folder)
            check_can_carry(previous, model)
        except FeatureIdError:
            return False
    return True


def _hash(wanted: Hash, model: ModelInfo, previous: ModelInfo | None) -> str:
    """Return the hash to store, given what the options say and the models of two runs."""
    if wanted != AUTO:
        return "" if wanted == "none" else wanted
    if previous is not None and first_difference(previous, model) is None:
        return previous.hash
    return "" if model.faces else PDQ
