"""Where snapshots are: their ids and places, the current one, and the one last found unchanged.

:mod:`featureid.storage.lifecycle` writes what is read here.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from featureid._version import __version__
from featureid.durations import as_utc, time_text
from featureid.errors import CorruptFileError, StorageError
from featureid.keys import ImageLocations
from featureid.parallel import map_in_order
from featureid.storage import files
from featureid.storage.manifest import Manifest, sequence_of
from featureid.storage.records import ModelInfo, SnapshotInfo

_LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
FAILURES = "failures-00000-of-00001.jsonl.gz"
CURRENT = "current"
CHECKED = "checked"
SNAPSHOTS = "snapshots"
RESULTS = "results"
#: The folders in an output folder that runs write into -> what they hold; an output has one.
COLLECTIONS = {
    SNAPSHOTS: "snapshots, not results of matching",
    RESULTS: "results of matching, not snapshots",
}
MODELS = "models"
CALIBRATION_SUFFIX = ".calibration"
# What a run there makes, and the command for it.
_WORDS = {SNAPSHOTS: ("snapshot", "embed"), RESULTS: ("result", "match")}

_Manifest = TypeVar("_Manifest")
_TIME = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)
_MAX_BYTES = 256
# Manifests that are read at the same time.
_REQUESTS = 16


def new_snapshot_id(now: datetime) -> str:
    """Return an id such as ``20261123T054231Z-3f9a1c``; ids sort by when runs start.

    Three of the last six digits are the fraction of the second, so that the later of two runs that
    start in the same second usually has the later id; three are random.

    Args:
        now: the time, aware of its zone.
    """
    utc = as_utc(now)
    fraction = utc.microsecond * 4096 // 1_000_000
    return f"{utc:{_TIME}}-{fraction:03x}{secrets.randbelow(4096):03x}"


def new_info(
    snapshot: str,
    now: datetime,
    model: ModelInfo,
    num_shards: int,
    locations: ImageLocations | None = None,
) -> SnapshotInfo:
    """Return what every file of a snapshot that this version writes will say about it.

    Args:
        snapshot: its id, of :func:`new_snapshot_id`.
        now: its creation time, aware of its zone.
        model: what made the vectors.
        num_shards: how many shards will hold the rows.
        locations: where the images are; None if that is not known.
    """
    return SnapshotInfo(
        snapshot=snapshot,
        created=time_text(now),
        writer=f"featureid {__version__}",
        model=model,
        num_shards=num_shards,
        locations=locations or ImageLocations(),
    )


def started_at(snapshot: str) -> datetime:
    """Return when the run that a snapshot id was made for started, to the second."""
    return datetime.strptime(snapshot.partition("-")[0], _TIME).replace(tzinfo=UTC)


def is_snapshot_id(text: str) -> bool:
    """Return whether a text has the form of an id of :func:`new_snapshot_id`."""
    if not _ID.fullmatch(text):
        return False
    try:
        started_at(text)
    except ValueError:  # There is no such day or time.
        return False
    return True


def snapshot_folder(output: str, snapshot: str, collection: str = SNAPSHOTS) -> str:
    """Return the folder of a snapshot, or of a result, in an output folder.

    Raises:
        StorageError: it is not a snapshot id.
    """
    if not is_snapshot_id(snapshot):
        raise StorageError(
            f"{snapshot!r} is not a snapshot id; expected for example 20261123T054231Z-3f9a1c"
        )
    return files.join(output, collection, snapshot)


def snapshot_ids(output: str, collection: str) -> list[str]:
    """Return the ids of all snapshots, or results, of an output, complete or not, sorted.

    Raises:
        StorageError: the folder cannot be listed.
    """
    place = files.join(output, collection)
    ids = filter(is_snapshot_id, files.list_places(place))
    return [name for name in ids if not files.is_local_file(files.join(place, name))]


def other_collection(output: str, collection: str) -> str | None:
    """Return which of :data:`COLLECTIONS` an output folder has instead of one; None if none.

    Raises:
        StorageError: the folder cannot be listed.
    """
    for other in COLLECTIONS:
        # A folder of that name may be anything.
        if other != collection and snapshot_ids(output, other):
            return other
    return None


def index_place(folder: str) -> str:
    """Return where the index of a snapshot is: beside its folder, since it is no part of it."""
    return folder.rstrip("/") + ".index"


def calibration_place(folder: str) -> str:
    """Return where the calibration of a snapshot is: beside its folder, for later ones as well."""
    return folder.rstrip("/") + CALIBRATION_SUFFIX


def read_checked(output: str) -> tuple[str, str]:
    """Return a snapshot's id, and when a run last found no changes since; ("", "") if none has.

    Raises:
        StorageError: the file cannot be read.
    """
    place = files.join(output, CHECKED)
    if not files.exists(place):
        return "", ""
    text = files.read_bytes(place, _MAX_BYTES).decode("ascii", "replace")
    snapshot, _, at = text.strip().partition(" ")
    return (snapshot, at) if is_snapshot_id(snapshot) else ("", "")


def checked_at(output: str, snapshot: str) -> str | None:
    """Return when a run last found no changes since a snapshot; None if none has.

    Args:
        output: the folder that holds snapshots.
        snapshot: the id of the snapshot; what was found about others does not count.

    Raises:
        StorageError: the file cannot be read.
    """
    found, at = read_checked(output)
    return at if found == snapshot else None


def current_snapshot(output: str) -> str | None:
    """Return the id in ``current``, or None if there is no such file.

    Raises:
        CorruptFileError: it holds no snapshot id.
        StorageError: it cannot be read.
    """
    place = files.join(output, CURRENT)
    if not files.exists(place):
        return None
    text = files.read_bytes(place, _MAX_BYTES).decode("ascii", "replace").strip()
    if not is_snapshot_id(text):
        raise CorruptFileError(f"{place} holds {text[:40]!r}, not a snapshot id")
    return text


def read_sequence(folder: str) -> int | None:
    """Return the sequence number of a snapshot, or result; None if it has no whole manifest.

    Raises:
        StorageError: the manifest cannot be read.
    """
    place = files.join(folder, MANIFEST)
    if not files.exists(place):
        return None
    try:
        return sequence_of(files.read_bytes(place))
    except StorageError:
        if files.exists(place):
            raise
        return None  # Deleted meanwhile.


def read_sequences(
    output: str, collection: str, known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the sequence numbers of the complete snapshots, or results, of an output by their ids.

    Args:
        output: the output folder.
        collection: which of :data:`COLLECTIONS` to look in.
        known: numbers that need not be read again.

    Raises:
        StorageError: a manifest cannot be read.
    """
    known = known or {}

    def read(snapshot: str) -> int | None:
        folder = snapshot_folder(output, snapshot, collection)
        return known.get(snapshot) or read_sequence(folder)

    numbers = map_in_order(read, snapshot_ids(output, collection), _REQUESTS)
    return {snapshot: number for snapshot, number in numbers if number is not None}


def newest_of(sequences: Mapping[str, int]) -> str | None:
    """Return the id that was published last; None if there is none.

    Where there are no locks, two runs that publish at the same moment may get the same number; then
    the later id is the newer one.
    """
    return max(sequences, key=lambda snapshot: (sequences[snapshot], snapshot), default=None)


@dataclass(frozen=True)
class Current:
    """The current snapshot, or result, of an output folder.

    Attributes:
        named: the id in ``current``; None if it holds none, or is missing.
        snapshot: the id of the one that readers get: the one that is named, or the newest complete
            one if that is not complete; None if no one is.
        fault: what is wrong with ``current``; "" if it names a complete one, or there is none.
    """

    named: str | None
    snapshot: str | None
    fault: str = ""


def read_current(output: str, collection: str = SNAPSHOTS) -> Current:
    """Return the current snapshot, or result, of an output folder.

    Raises:
        StorageError: a file cannot be read.
    """
    place = files.join(output, CURRENT)
    before: tuple[str | None, str] | None = None
    while True:
        named, fault = None, ""
        try:
            named = current_snapshot(output)
        except CorruptFileError as error:
            fault = str(error)
        if named is not None:
            folder = snapshot_folder(output, named, collection)
            if files.exists(files.join(folder, MANIFEST)):
                return Current(named, named)
            fault = f"{place} names {named}, which has no {MANIFEST}"
        if (named, fault) == before:
            break
        # Ask once more: a run may have published another one, and prune have deleted this one.
        before = named, fault
    newest = newest_of(read_sequences(output, collection))
    if newest is not None and not fault:
        fault = f"{place} is missing"
    return Current(named, newest, fault)


def is_output(path: str) -> bool:
    """Return whether a path is that of an output folder or of a complete snapshot."""
    if not files.is_remote(path) and not os.path.isdir(path):
        return False
    if any(files.exists(files.join(path, name)) for name in (MANIFEST, CURRENT)):
        return True
    return bool(snapshot_ids(path, SNAPSHOTS))


def check_output(output: str, collection: str = SNAPSHOTS) -> None:
    """Check that a folder is an output folder, be it of unfinished runs only.

    Args:
        output: the folder.
        collection: which of :data:`COLLECTIONS` it should have.

    Raises:
        StorageError: it is not, or cannot be read.
    """
    if files.exists(files.join(output, collection)):
        return
    _refuse_other(output, collection)
    if files.exists(files.join(output, CURRENT)):
        return
    _check_exists(output)
    if files.exists(files.join(output, MANIFEST)):
        raise StorageError(f"{output} is the folder of one snapshot; name its output folder")
    raise StorageError(
        f"{output} is not an output folder: it has neither {SNAPSHOTS}/ nor {CURRENT}; check the "
        "path"
    )


def _refuse_other(output: str, collection: str) -> None:
    found = other_collection(output, collection)
    if found is not None:
        raise StorageError(f"{output} holds {COLLECTIONS[found]}; give another folder")


def _check_exists(path: str) -> None:
    if not files.is_remote(path) and not files.exists(path):
        raise StorageError(f"{path} does not exist; check the spelling, or run featureid embed")


def find_snapshot(path: str, collection: str = SNAPSHOTS) -> str:
    """Return the folder of a complete snapshot, or result.

    Args:
        path: an output folder, meaning its current snapshot or, if ``current`` is missing or
            damaged, its newest complete one; or a snapshot's own folder.
        collection: which of :data:`COLLECTIONS` the output should have.

    Raises:
        CorruptFileError: there was a complete snapshot, by ``current``, but none is left.
        StorageError: there is no complete snapshot.
    """
    if files.exists(files.join(path, MANIFEST)):
        return path
    what, command = _WORDS[collection]
    current = read_current(path, collection)
    if current.snapshot is not None:
        if current.fault:
            _LOG.warning("%s; the newest complete %s is read", current.fault, what)
        return snapshot_folder(path, current.snapshot, collection)
    _refuse_other(path, collection)
    _check_exists(path)
    if current.fault:
        raise CorruptFileError(f"{current.fault}, and no {what} is complete; {command} again")
    raise StorageError(
        f"{path} holds no complete {what}: it has neither {CURRENT} nor {MANIFEST}. An "
        f"unfinished run leaves neither; run featureid {command}"
    )


def find_manifest(path: str) -> tuple[str, Manifest]:
    """Return the folder and the manifest of a complete snapshot.

    Args:
        path: as for :func:`find_snapshot`.

    Raises:
        CorruptFileError: the manifest is damaged.
        StorageError: there is no complete snapshot, or its manifest cannot be read.
    """
    return find_and_read(path, SNAPSHOTS, read_manifest)


def find_and_read(
    path: str, collection: str, read: Callable[[str], _Manifest]
) -> tuple[str, _Manifest]:
    """Return the folder of a complete snapshot, or result, and what is read from it.

    Args:
        path: as for :func:`find_snapshot`.
        collection: likewise.
        read: reads the manifest in a folder.
    """
    while True:
        folder = find_snapshot(path, collection)
        try:
            return folder, read(folder)
        except StorageError:
            if folder == path or files.exists(files.join(folder, MANIFEST)):
                raise
        # Deleted between the two: another one has become current.


def read_manifest(folder: str) -> Manifest:
    """Return the manifest of a snapshot's folder.

    Raises:
        CorruptFileError: it is damaged.
        StorageError: it cannot be read or is of a later version.
    """
    place = files.join(folder, MANIFEST)
    return Manifest.from_json(files.read_bytes(place), place)
