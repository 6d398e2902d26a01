"""The life of a run in an output folder: begun, then committed, discarded or aborted; and pruning.

Runs and ``prune`` share a folder, and object stores have no locks. Two orders of writing make that
safe:

- A run first writes ``run.json``, which names the previous snapshot, and then looks for that
  snapshot's manifest. ``prune`` first removes the manifest and then looks for such runs. Of two
  that do so at once, at least one sees the other.
- A run writes its files, then the manifest, then ``current``, and then ``run.json`` again, which
  says that it has committed. ``prune`` removes nothing of a run that is not known to be over, and
  nothing that was published after the current snapshot, so that it never removes a snapshot that
  is just becoming current.
- Snapshots are numbered as they are published: a manifest has the number after the highest one that
  is there. A run lets ``current`` name the newest snapshot, and then looks whether a newer one is
  there. Of two that do so at once, at least the one that writes ``current`` last sees the other's
  manifest, so that the newest one is current in the end.

Where there are locks, on file systems, they also make two runs publish one after the other, and two
prunes wait for each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from featureid.errors import StorageError, UsageError
from featureid.storage import files, gzip_members
from featureid.storage.history import Entry, list_snapshots
from featureid.storage.manifest import FileSummary, Manifest, build_manifest, count_outcomes
from featureid.storage.records import Failure, SnapshotInfo
from featureid.storage.run_record import RunRecord, read_run
from featureid.storage.run_writer import RunWriter
from featureid.storage.safeguards import Safeguards, check_current
from featureid.storage.shard import ShardSummary
from featureid.storage.snapshot import (
    CHECKED,
    FAILURES,
    MANIFEST,
    SNAPSHOTS,
    index_place,
    other_collection,
    read_current,
    read_manifest,
)


@dataclass(frozen=True)
class SnapshotWriter(RunWriter):
    """One run that writes a snapshot: shards, then :meth:`commit` or :meth:`discard`.

    Attributes:
        output: the folder that holds snapshots; local or a URI.
        info: the snapshot.
        record: what ``run.json`` says about the run as it starts.
        previous_folder: the snapshot that rows are carried from; "" for none.
        safeguards: what the run may do to the current snapshot.
    """

    collection = SNAPSHOTS
    output: str
    info: SnapshotInfo
    record: RunRecord
    previous_folder: str = ""
    safeguards: Safeguards = field(default_factory=Safeguards)

    def begin(self) -> None:
        """Make the folder and mark it as being written.

        Raises:
            UsageError: the output holds something else than snapshots.
            MixedModelsError: the current snapshot is of another model.
            StorageError: it cannot be written, or the previous snapshot has been removed.
        """
        if self.is_complete:
            return
        super().begin()
        if self.previous_folder and not files.exists(files.join(self.previous_folder, MANIFEST)):
            raise StorageError(
                f"{self.previous_folder} was removed just as this run started; run it again"
            )

    def check(self, images: int | None = None) -> None:
        """Check that the snapshot may replace the current one.

        Args:
            images: number of images in it; None if it is not known yet.

        Raises:
            MixedModelsError: the current snapshot is of another model.
            FeatureIdError: it has many more images.
            UsageError: the output holds something else than snapshots.
            StorageError: it cannot be read.
        """
        super().check()
        check_current(self.output, self.info.model, self.safeguards, images)

    def commit(
        self,
        shards: Iterable[ShardSummary],
        failures: Iterable[Failure],
        changes: Mapping[str, int],
    ) -> Manifest:
        """Write failures and outcome, make the snapshot visible, and return its manifest.

        The manifest is the commit. Then ``current`` names the snapshot, unless another run has
        published at the same moment.

        Args:
            shards: what was written, in any order.
            failures: what could not be embedded, in any order.
            changes: numbers of new, changed, unchanged, ... images.

        Raises:
            MixedModelsError: the current snapshot is of another model.
            FeatureIdError: it has many more images.
            StorageError: a listed file is missing or has another size, the run's mark is gone, or
                a file cannot be written.
        """
        if self.is_complete:  # a retry
            self._finish(read_run(self.folder) or self.record)
            return read_manifest(self.folder)
        self.check_marked()
        manifest = self._write_failures_and_build(shards, failures)
        counts = manifest.counts
        self.check(counts.images)
        record = replace(
            self.record,
            changes=dict(changes),
            counts={
                "images": counts.images,
                "embedded": counts.embedded,
                "failed": counts.failed,
                "kept": counts.kept,
                "rows": manifest.rows,
            },
            failures_by_reason=counts.failures_by_reason,
        )
        number = self._publish(lambda n: replace(manifest, sequence=n).to_json(), record)
        return replace(manifest, sequence=number)

    def discard(self) -> None:
        """Remove the folder, as nothing has changed, and note when that was in ``checked``.

        What was found about a snapshot that is no longer current is not noted.

        Raises:
            StorageError: the folder cannot be removed, or the file not written.
        """
        self.abort()
        with files.exclusive(self.output):
            if read_current(self.output).snapshot == self.record.previous:
                text = f"{self.record.previous} {self.info.created}\n"
                files.write_atomic(files.join(self.output, CHECKED), [text.encode()])

    def _write_failures_and_build(
        self, shards: Iterable[ShardSummary], failures: Iterable[Failure]
    ) -> Manifest:
        """Write the failures and return the manifest, once all files are known to be there."""
        shards, failures = list(shards), sorted(set(failures))
        counts = count_outcomes(sum(shard.keys for shard in shards), failures)
        manifest = build_manifest(self.info, shards, [self._write_failures(failures)], counts)
        self._check_sizes(manifest.file_sizes())
        return manifest

    def _write_failures(self, failures: list[Failure]) -> FileSummary:
        """Write sorted failures as gzipped JSON lines; none gives an empty file."""
        data = gzip_members.deflate(b"".join(failure.to_json() for failure in failures))
        files.write_atomic(files.join(self.folder, FAILURES), [data])
        return FileSummary(FAILURES, len(failures), len(data), hashlib.sha256(data).hexdigest())


def prune(
    output: str, keep: int, now: datetime, dead_after: timedelta, *, dry_run: bool = False
) -> list[str]:
    """Delete all but the newest snapshots or results, and what dead runs have left.

    The current snapshot, what was published after it, runs in progress, the snapshots that they
    carry rows from, and what cannot be read are kept.

    Args:
        output: the folder that holds snapshots, or results.
        keep: how many complete ones stay, the current one among them.
        now: the time, aware of its zone.
        dead_after: see :meth:`featureid.storage.run_record.RunRecord.is_over`.
        dry_run: delete nothing.

    Returns:
        The ids of what was, or would be, deleted, oldest first.

    Raises:
        UsageError: ``keep`` is less than 1.
        StorageError: it is not an output folder, or something cannot be read or removed.
    """
    if keep < 1:
        raise UsageError(f"`keep` is {keep}; the current snapshot always stays: give 1 or more")
    collection = other_collection(output, SNAPSHOTS) or SNAPSHOTS

    def entries() -> list[Entry]:
        return list_snapshots(output, now, dead_after, collection)

    if dry_run or not files.exists(files.join(output, collection)):
        return [entry.snapshot for entry in _unneeded(entries(), keep)]
    with files.exclusive(files.join(output, collection)):  # Of two prunes at once, one waits.
        unneeded = _unneeded(entries(), keep)
        manifests = [_retire(entry) for entry in unneeded]
        in_use = _in_use(entries()) if unneeded else set()
        removed = []
        for entry, manifest in zip(unneeded, manifests, strict=True):
            if entry.snapshot not in in_use:
                files.remove_folder(entry.folder)
                files.remove(index_place(entry.folder))
                removed.append(entry.snapshot)
            elif manifest is not None:
                files.write_atomic(files.join(entry.folder, MANIFEST), [manifest])
    return removed


def _unneeded(entries: list[Entry], keep: int) -> list[Entry]:
    in_use = _in_use(entries)
    published = [entry for entry in entries if entry.sequence]  # oldest first
    newest_old = next((n for n, entry in enumerate(published) if entry.current), len(published))
    unwanted = published[: min(newest_old, max(0, len(published) - keep))]
    old = {entry.snapshot for entry in unwanted if entry.over}
    return [
        entry
        for entry in entries
        if (entry.dead or entry.snapshot in old)
        and entry.snapshot not in in_use
        and not files.is_link(entry.folder)  # What it leads to is not ours.
    ]


def _in_use(entries: list[Entry]) -> set[str]:
    """Return the current snapshot, and those that runs in progress carry rows from."""
    carried = {entry.record.previous for entry in entries if entry.record and not entry.over}
    return carried | {entry.snapshot for entry in entries if entry.current}


def _retire(entry: Entry) -> bytes | None:
    """Remove a snapshot's manifest, so that no new run carries from it, and return its content."""
    place = files.join(entry.folder, MANIFEST)
    if not entry.complete:
        return None
    try:
        content = files.read_bytes(place)
    except StorageError:
        if files.exists(place):
            raise
        return None  # In an object store, another prune was faster.
    files.remove(place)
    return content
