"""Snapshots on disk: their names, what is written into them, and how one becomes visible."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import files, gzip_members
from featureid.storage.manifest import FileSummary, Manifest
from featureid.storage.records import Failure

MANIFEST = "manifest.json"
CURRENT = "current"
CHECKED = "checked"
SNAPSHOTS = "snapshots"

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)
_MAX_CURRENT_BYTES = 256


def new_snapshot_id(now: datetime) -> str:
    """Return an id such as ``20261123T054231Z-3f9a1c``; ids sort by time.

    Of the last six digits three are the fraction of the second, so that of two runs after each
    other, which may take less than one, the later has the later id; three are random.

    Args:
        now: the time, aware of its zone.
    """
    utc = _utc(now)
    fraction = utc.microsecond * 4096 // 1_000_000
    return f"{utc:%Y%m%dT%H%M%SZ}-{fraction:03x}{secrets.randbelow(4096):03x}"


def created_text(now: datetime) -> str:
    """Return a time as files state it, ``2026-11-23T05:42:31Z``."""
    return f"{_utc(now):%Y-%m-%dT%H:%M:%SZ}"


def is_snapshot_id(text: str) -> bool:
    """Tell whether a text is an id as :func:`new_snapshot_id` makes them."""
    return _ID.fullmatch(text) is not None


def snapshot_folder(output: str, snapshot: str) -> str:
    """Return the folder of a snapshot in an output folder.

    Raises:
        StorageError: that is no snapshot id.
    """
    if not is_snapshot_id(snapshot):
        raise StorageError(f"{snapshot!r} is no snapshot id such as 20261123T054231Z-3f9a1c")
    return files.join(output, SNAPSHOTS, snapshot)


def prepare_snapshot(output: str, snapshot: str) -> str:
    """Make the folder of a new snapshot, and return it.

    Raises:
        StorageError: it cannot be made or written to.
    """
    folder = snapshot_folder(output, snapshot)
    files.make_folder(folder)
    return folder


def failures_name(number: int = 0, total: int = 1) -> str:
    """Return the name of a failures file, ``failures-00000-of-00001.jsonl.gz``."""
    return f"failures-{number:05d}-of-{total:05d}.jsonl.gz"


def write_failures(
    folder: str, failures: Iterable[Failure], number: int = 0, total: int = 1
) -> FileSummary:
    """Write failures, sorted by key, as gzipped JSON lines; none gives an empty file.

    Raises:
        StorageError: the file cannot be written.
    """
    ordered = sorted(failures)
    data = gzip_members.deflate(b"".join(failure.to_json() for failure in ordered))
    name = failures_name(number, total)
    files.write_atomic(files.join(folder, name), [data])
    return FileSummary(name, len(ordered), len(data), hashlib.sha256(data).hexdigest())


def publish(output: str, manifest: Manifest) -> str:
    """Make a snapshot visible, and return its folder.

    The manifest, written last, is the commit. Then ``current`` names the snapshot, unless it names
    a newer one already; of two runs that publish at the very same moment the later writer wins.
    Doing it again changes nothing.

    Raises:
        StorageError: a listed file is missing or has another size, or a file cannot be written.
    """
    folder = snapshot_folder(output, manifest.info.snapshot)
    for name, length in manifest.file_sizes().items():
        found = files.size(files.join(folder, name))
        if found != length:
            raise StorageError(
                f"{files.join(folder, name)} has {found} bytes where {length} were "
                "written; the snapshot is not published"
            )
    files.write_atomic(files.join(folder, MANIFEST), [manifest.to_json()])
    newest = current_snapshot(output)
    if newest is None or newest < manifest.info.snapshot:
        files.write_atomic(files.join(output, CURRENT), [manifest.info.snapshot.encode() + b"\n"])
    return folder


def write_checked(output: str, snapshot: str, at: str) -> None:
    """Write down that a run found nothing that a snapshot has not.

    Args:
        output: the folder that holds snapshots.
        snapshot: the id of the snapshot.
        at: when the run started, as :func:`created_text` states it.

    Raises:
        StorageError: it cannot be written.
    """
    files.write_atomic(files.join(output, CHECKED), [f"{snapshot} {at}\n".encode()])


def checked_at(output: str, snapshot: str) -> str | None:
    """Return when a run last found nothing new since a snapshot; None if none has.

    Args:
        output: the folder that holds snapshots.
        snapshot: the id of the snapshot; what was found of others does not count.

    Raises:
        StorageError: the file cannot be read.
    """
    place = files.join(output, CHECKED)
    if not files.exists(place):
        return None
    text = files.read_bytes(place, _MAX_CURRENT_BYTES).decode("ascii", "replace")
    found, _, at = text.strip().partition(" ")
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
    text = files.read_bytes(place, _MAX_CURRENT_BYTES).decode("ascii", "replace").strip()
    if not is_snapshot_id(text):
        raise CorruptFileError(
            f"{place} holds {text[:40]!r}, not a snapshot id; write the name of a folder of "
            f"{files.join(output, SNAPSHOTS)} into it"
        )
    return text


def find_snapshot(path: str) -> str:
    """Return the folder of a complete snapshot.

    Args:
        path: an output folder, meaning its current snapshot, or a snapshot's own folder.

    Raises:
        StorageError: there is no complete snapshot.
    """
    if files.exists(files.join(path, MANIFEST)):
        return path
    newest = current_snapshot(path)
    if newest is not None:
        folder = snapshot_folder(path, newest)
        if files.exists(files.join(folder, MANIFEST)):
            return folder
        raise StorageError(f"{path}: its current snapshot {newest} has no {MANIFEST}; embed again")
    if not files.is_remote(path) and not files.exists(path):
        raise StorageError(f"{path} does not exist; check the spelling, or run featureid embed")
    raise StorageError(
        f"{path} holds no complete snapshot: it has neither {CURRENT} nor {MANIFEST}. A run that "
        "did not end leaves none; run featureid embed"
    )


def read_manifest(folder: str) -> Manifest:
    """Return the manifest of a snapshot's folder.

    Raises:
        CorruptFileError: it is damaged.
        StorageError: it cannot be read or is of a later version.
    """
    place = files.join(folder, MANIFEST)
    return Manifest.from_json(files.read_bytes(place), place)


def _utc(now: datetime) -> datetime:
    if now.tzinfo is None:
        raise StorageError(f"The time {now} has no zone; give datetime.now(timezone.utc)")
    return now.astimezone(UTC)
