"""The snapshot that an incremental run carries rows from."""

from __future__ import annotations

from featureid.errors import UsageError
from featureid.jobs.options import RefreshOptions
from featureid.refresh import check_same_model
from featureid.storage import files
from featureid.storage.carry import check_can_carry
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo
from featureid.storage.snapshot import current_snapshot

#: The value of ``--previous`` that means the current snapshot of the output, if there is one.
AUTO = "auto"


def find_previous(options: RefreshOptions, output: str, model: ModelInfo) -> Snapshot | None:
    """Return the snapshot to carry rows from; None for a full run.

    Raises:
        UsageError: it is ``auto``, and there is no output.
        MixedModelsError: it is of another model.
        StorageError: it cannot be read, or its rows do not fit into this run's snapshot.
    """
    if not options.previous:
        return None
    place = options.previous
    if place == AUTO and not output:
        raise UsageError("`previous='auto'` means the current snapshot of `output`; add `output`")
    if place == AUTO:
        newest = current_snapshot(output)
        if newest is None:
            return None
        place = output
    previous = open_snapshot(files.absolute(place))  # workers have another current folder
    if not options.policy.re_embed:
        check_same_model(previous.manifest.info.model, model, previous.folder)
        check_can_carry(previous, model)
    return previous
