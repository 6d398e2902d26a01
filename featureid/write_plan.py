"""What a run decides as it writes: how many shards, whether anything has changed, and its outcome.

Beam-free, so that it is tested without a pipeline; ``transforms/refresh.py`` wires it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from featureid.errors import TooManyFailuresError
from featureid.refresh import Changes, with_num_shards
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.manifest import Counts, count_outcomes
from featureid.storage.reader import Snapshot
from featureid.storage.records import Failure
from featureid.storage.safeguards import check_missing
from featureid.storage.shard import ShardSummary

_NAMED_REASONS = 3


@dataclass(frozen=True)
class WritePlan:
    """The snapshot that a run writes, and the one that it is compared with.

    Attributes:
        writer: the new snapshot; its number of shards counts only with ``fixed_shards``.
        previous: the snapshot that rows are carried from, if any.
        fixed_shards: whether the user has chosen the number of shards.
        max_failure_rate: publish nothing if a larger share of the images has failed.
        publish_anyway: publish all the same.
        unattended: whether nobody waits for the end of the run, so that it has to fail once it has
            published anyway.
    """

    writer: SnapshotWriter
    previous: Snapshot | None = None
    fixed_shards: bool = False
    max_failure_rate: float = 1.0
    publish_anyway: bool = False
    unattended: bool = False

    def choose_shards(
        self,
        changes: Iterable[Changes],
        missing: Iterable[Mapping[str, int]],
        found: Iterable[str],
    ) -> SnapshotWriter:
        """Return the writer with its number of shards.

        Args:
            changes: what has changed in the inputs, one item per partition.
            missing: folder -> number of images that are gone, one item per partition.
            found: the folders that have images.

        Raises:
            FeatureIdError: too many images are missing, or all of a folder.
        """
        total = sum(changes, Changes())
        check_missing(missing, found, total.previous, self.writer.safeguards)
        self.writer.check(total.images)
        fixed = self.fixed_shards
        info = with_num_shards(self.writer.info, total.images, self.previous, fixed=fixed)
        return replace(self.writer, info=info)

    def has_changes(
        self,
        writer: SnapshotWriter,
        changes: Iterable[Changes],
        failures: Iterable[Failure],
        any_rows: Iterable[bool],
        num_touched: int,
    ) -> bool:
        """Return whether the snapshot would differ from the previous one.

        Args:
            writer: of :meth:`choose_shards`.
            changes: what has changed in the inputs, one item per partition.
            failures: all failures of the new snapshot.
            any_rows: has items if there is a new row.
            num_touched: number of images that differ in their source version only.
        """
        if self.previous is None or any(any_rows) or num_touched:
            return True
        if any(partition.deleted for partition in changes):
            return True
        if self.fixed_shards and writer.info.num_shards != self.previous.num_shards:
            return True
        if writer.info.locations != self.previous.manifest.info.locations:
            return True  # The images were moved, and keys have to lead to where they are now.
        return sorted(set(failures)) != sorted(self.previous.failures())

    def finish(
        self,
        writer: SnapshotWriter,
        changes: Iterable[Changes],
        failures: Iterable[Failure],
        num_same: int,
        has_changes: bool,
        shards: Iterable[ShardSummary],
    ) -> str:
        """Publish the snapshot, or discard it if nothing has changed; return its folder.

        Args:
            writer: of :meth:`choose_shards`.
            changes: what has changed in the inputs, one item per partition.
            failures: all failures.
            num_same: number of images whose content turned out to be the same.
            has_changes: of :meth:`has_changes`.
            shards: what has been written.

        Raises:
            StorageError: a file is missing or cannot be written.
            TooManyFailuresError: too many images have failed, and nothing is published, or nobody
                else would see it.
        """
        if not has_changes:
            writer.discard()
            return writer.folder
        shards, failures = list(shards), sorted(set(failures))
        counts = count_outcomes(sum(shard.keys for shard in shards), failures)
        reason = too_many_failures(counts, self.max_failure_rate)
        if reason and not self.publish_anyway:
            raise TooManyFailuresError(
                f"{reason}: {_examples(failures)}. Nothing is published; to publish such a "
                "snapshot, add `publish_anyway`"
            )
        total = sum(changes, Changes()).compared(num_same)
        writer.commit(shards, failures, total.to_dict() if self.previous is not None else {})
        if reason and self.unattended:
            raise TooManyFailuresError(f"{writer.folder} is published, but {reason}")
        return writer.folder


def too_many_failures(counts: Counts, max_failure_rate: float) -> str:
    """Return why a snapshot has too many failures; "" if it has not.

    An image whose rows of an earlier run were kept counts as a failure, too.

    Args:
        counts: of the snapshot.
        max_failure_rate: the share of the images that may have failed.
    """
    failed = counts.failed + counts.kept
    if failed == counts.images > 0:
        return f"none of the {counts.images} images could be embedded"
    if failed > max_failure_rate * counts.images:
        return (
            f"{failed} of the {counts.images} images failed, more than "
            f"`max_failure_rate={max_failure_rate}` allows"
        )
    return ""


def _examples(failures: Sequence[Failure]) -> str:
    """Return the numbers of failures by reason, and the first failure."""
    reasons = Counter(failure.reason for failure in failures).most_common(_NAMED_REASONS)
    numbers = ", ".join(f"{number} {reason}" for reason, number in reasons)
    first = failures[0]
    return f"{numbers}, such as {first.key!r}: {first.message}"
