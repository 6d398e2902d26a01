"""What an incremental run has to do: the listing compared with the previous snapshot.

An image is identified by its key and considered unchanged if its source version is the same; no
image is read to decide that. Images are partitioned by the hash of their keys, as rows are into
shards, so that each partition is compared with one shard of the previous snapshot, on any worker,
and only small records travel between workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

import numpy as np

from featureid.errors import UsageError
from featureid.inputs import ImageRef, is_there
from featureid.storage.carry import Mask, RowIndex, naming_way_out, read_row_index
from featureid.storage.reader import Snapshot
from featureid.storage.records import Failure, ModelInfo, SnapshotInfo
from featureid.storage.shard import choose_num_shards, shard_of

Check = Literal["version", "content"]
_Fate = Literal["changed", "unchanged", "deleted", "retried"]

#: The stage of a failure that stands for a folder, not for an image.
_LIST_STAGE = "list"
#: Partitions of a full run, which has no previous snapshot whose shards they could be.
_PARTITIONS = 1024


@dataclass(frozen=True)
class RefreshPolicy:
    """What counts as unchanged.

    Attributes:
        check: ``version`` compares source versions; ``content`` reads every image and compares the
            SHA-256 of its bytes.
        retry_failed: retry known failures whose images have not changed.
        re_embed: embed every image, changed or not.
    """

    check: Check = "version"
    retry_failed: bool = False
    re_embed: bool = False

    def __post_init__(self) -> None:
        if self.re_embed and self.check == "content":
            raise UsageError(
                "`re_embed` embeds every image, `check='content'` only those that have changed; "
                "give one of them"
            )


@dataclass(frozen=True)
class Changes:
    """Number of images by how they compare with the previous snapshot.

    Attributes:
        new: not in the previous snapshot.
        changed: in it with another version or none; with ``check="content"`` also those whose
            bytes are still to be compared.
        retried: failures to retry although the image has not changed.
        unchanged: carried over, failures included.
        deleted: in the previous snapshot, but not in the inputs.
    """

    new: int = 0
    changed: int = 0
    retried: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __add__(self, other: Changes) -> Changes:
        """Return the sum, number by number."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Changes(*(one + two for one, two in pairs))

    def compared(self, same: int) -> Changes:
        """Return the numbers after ``same`` images turned out to have the same content."""
        return replace(self, changed=self.changed - same, unchanged=self.unchanged + same)

    @property
    def images(self) -> int:
        """Number of images in the inputs."""
        return self.new + self.changed + self.retried + self.unchanged

    @property
    def previous(self) -> int:
        """Number of images in the previous snapshot."""
        return self.changed + self.retried + self.unchanged + self.deleted

    def to_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """An image to embed only if its content has changed.

    Attributes:
        ref: the image.
        sha256: digest of its content in the previous snapshot, 32 bytes.
        version: its source version in the previous snapshot.
    """

    ref: ImageRef
    sha256: bytes
    version: str

    @property
    def touched(self) -> bool:
        """Whether its source version has changed, or is unknown."""
        return not self.ref.version or self.ref.version != self.version


@dataclass(frozen=True)
class PartitionPlan:
    """What to do with the images of one partition.

    Attributes:
        embed: images to embed.
        compare: images to read, and to embed only if their content has changed.
        carry: (rows,) bool, the rows of the previous snapshot's shard that stay as they are.
        failures: known failures that stay as they are.
        changes: number of images by how they compare.
        missing: folder -> number of images of the previous snapshot that were in it and are gone:
            deleted, or listed by a manifest or as a link and not there.
    """

    embed: list[ImageRef] = field(default_factory=list)
    compare: list[Comparison] = field(default_factory=list)
    carry: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    failures: list[Failure] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    missing: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Planner:
    """Plans a run, one partition of the keys at a time; small enough to be sent to workers.

    With a previous snapshot, partitions are its shards.

    Attributes:
        previous: the snapshot to carry rows from; None for a full run.
        policy: what counts as unchanged.
        keep_unread: keep the rows of images that have changed but cannot be read.
    """

    previous: Snapshot | None
    policy: RefreshPolicy
    keep_unread: bool = False

    @property
    def num_partitions(self) -> int:
        """Number of partitions."""
        return _PARTITIONS if self.previous is None else self.previous.num_shards

    def partition_of(self, key: str) -> int:
        """Return the partition of an image."""
        return shard_of(key, self.num_partitions)

    def found_folder(self, item: ImageRef | Failure) -> str | None:
        """Return the folder that an item of the listing shows to have images; None for none."""
        if isinstance(item, Failure):  # The rows of a folder that cannot be listed are carried.
            return None if self.policy.re_embed else item.key
        return folder_of(item.key) if is_there(item) else None

    def known_failures(self) -> list[list[Failure]]:
        """Return the previous snapshot's failures by partition.

        Raises:
            StorageError: they are damaged or cannot be read.
        """
        known: list[list[Failure]] = [[] for _ in range(self.num_partitions)]
        with naming_way_out():
            for failure in () if self.previous is None else self.previous.failures():
                known[self.partition_of(failure.key)].append(failure)
        return known

    def plan(
        self,
        partition: int,
        refs: Iterable[ImageRef],
        failures: Iterable[Failure],
        unlisted: Collection[str],
    ) -> PartitionPlan:
        """Decide what to do with each image of one partition.

        Args:
            partition: its number.
            refs: its images in the inputs, in any order.
            failures: its known failures.
            unlisted: keys of folders that could not be listed, of any partition.

        Raises:
            StorageError: the previous snapshot's shard is damaged or cannot be read.
        """
        index = RowIndex()
        if self.previous is not None:
            shard = self.previous.shard(partition)
            digests = self.policy.check == "content"
            index = read_row_index(shard, digests=digests, imported=self.policy.re_embed)
        plan = plan_partition(refs, index, failures, self.policy, unlisted)
        if not self.keep_unread:
            return plan
        known = set(index.keys)
        embed = [replace(ref, known=ref.key in known) for ref in plan.embed]
        compare = [replace(item, ref=replace(item.ref, known=True)) for item in plan.compare]
        return replace(plan, embed=embed, compare=compare)


def plan_partition(
    refs: Iterable[ImageRef],
    previous: RowIndex,
    known_failures: Iterable[Failure],
    policy: RefreshPolicy,
    unlisted: Collection[str] = (),
) -> PartitionPlan:
    """Decide what to do with each image of one partition.

    Args:
        refs: its images in the inputs, in any order; of several with one key the first by URI
            counts.
        previous: its rows in the previous snapshot; empty if there is none.
        known_failures: its failures in the previous snapshot.
        policy: what counts as unchanged.
        unlisted: keys of folders that could not be listed: what the previous snapshot has below
            them is carried over, since it may still be there.
    """
    listed = _unique(refs)
    # Re-embedded vectors must not be mixed with old ones that could not be re-embedded.
    below = () if policy.re_embed else tuple(f"{folder.rstrip('/')}/" for folder in unlisted)
    plan = PartitionPlan(carry=np.zeros(len(previous.keys), np.bool_))
    counts: Counter[str] = Counter()

    first_rows = _first_rows(previous.keys)
    for key, (row, end) in first_rows.items():
        ref = listed.pop(key, None)
        fate = _fate(key, previous.versions[row], ref, policy, below)
        if ref is not None and policy.check == "content" and previous.digests is not None:
            fate = "changed"
            digest = previous.digests[row].tobytes()
            plan.compare.append(Comparison(ref, digest, previous.versions[row]))
        elif ref is not None and fate == "changed":
            plan.embed.append(ref)
        elif fate == "unchanged":
            plan.carry[row:end] = True
        counts[fate] += 1
        if _is_missing(fate, previous.versions[row], ref):
            plan.missing[folder_of(key)] += 1
    for failure in known_failures:
        if failure.stage == _LIST_STAGE or failure.key in first_rows:
            continue
        ref = listed.pop(failure.key, None)
        fate = _fate(failure.key, failure.source_version, ref, policy, below)
        if ref is not None and fate == "unchanged":
            fate = "retried" if policy.retry_failed or not failure.of_content else fate
        if ref is not None and fate != "unchanged":
            plan.embed.append(ref)
        elif fate == "unchanged":
            plan.failures.append(failure)
        counts[fate] += 1
        if _is_missing(fate, failure.source_version, ref):
            plan.missing[folder_of(failure.key)] += 1
    counts["new"] = len(listed)
    plan.embed.extend(listed.values())
    return replace(plan, changes=Changes(**counts))


def _fate(
    key: str, version: str, ref: ImageRef | None, policy: RefreshPolicy, below: tuple[str, ...]
) -> _Fate:
    """Return what became of an image of the previous snapshot, as far as its version shows."""
    if ref is None:
        return "unchanged" if key.startswith(below) else "deleted"
    if policy.re_embed or not ref.version or ref.version != version:
        return "changed"
    return "unchanged"


def _is_missing(fate: _Fate, version: str, ref: ImageRef | None) -> bool:
    """Return whether an image of the previous snapshot is not where it was."""
    return fate == "deleted" or (ref is not None and version != "" and not is_there(ref))


def folder_of(key: str) -> str:
    """Return the folder of an image, written like its key."""
    return key.rpartition("/")[0]


def _first_rows(keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return key -> its rows ``[start, end)``; keys are sorted."""
    starts = [row for row, key in enumerate(keys) if row == 0 or key != keys[row - 1]]
    ends = [*starts, len(keys)][1:]
    return {keys[start]: (start, end) for start, end in zip(starts, ends, strict=True)}


def _unique(refs: Iterable[ImageRef]) -> dict[str, ImageRef]:
    chosen: dict[str, ImageRef] = {}
    for ref in refs:
        known = chosen.get(ref.key)
        if known is None or (ref.uri, ref.version) < (known.uri, known.version):
            chosen[ref.key] = ref
    return chosen


def check_stored(previous: ModelInfo, model: ModelInfo, place: str) -> None:
    """Refuse to carry rows into a snapshot that stores vectors or hashes in another way.

    Args:
        previous: of the snapshot that rows would be carried from.
        model: of the run.
        place: the previous snapshot.

    Raises:
        UsageError: the types of the vectors differ, or only one of both stores hashes.
    """
    if previous.dtype != model.dtype:
        raise UsageError(
            f"{place} stores {previous.dtype}, this run {model.dtype}; rows are only carried over "
            f"bit for bit. Give `dtype={previous.dtype!r}`, or `re_embed=True`"
        )
    if previous.hash != model.hash:
        stored, wanted = previous.hash or "none", model.hash or "none"
        raise UsageError(
            f"{place} stores the perceptual hash {stored}, this run {wanted}; all rows of a "
            "snapshot have one or none has. Leave out `hash`, or give `re_embed=True`"
        )


def with_num_shards(
    info: SnapshotInfo, images: int, previous: Snapshot | None, *, fixed: bool
) -> SnapshotInfo:
    """Return a snapshot's info with the number of shards that it should have.

    Args:
        info: the new snapshot.
        images: number of images in the inputs.
        previous: the snapshot to carry rows from, if any.
        fixed: whether to keep the number in ``info``, as the user chose it.
    """
    if fixed:
        return info
    number = choose_num_shards(images, info.model)
    if previous is not None:
        number = refreshed_num_shards(number, previous.num_shards)
    return replace(info, num_shards=number)


def refreshed_num_shards(wanted: int, previous: int) -> int:
    """Return how many shards a refreshed snapshot should have.

    Keep the previous number, so that each shard is made from one, until files are half or twice as
    large as they should be; then double or halve it, so that each shard is made from few.

    Args:
        wanted: what a full run would choose.
        previous: what the previous snapshot has.
    """
    number = previous
    while wanted >= 2 * number:
        number *= 2
    while number % 2 == 0 and 2 * wanted <= number:
        number //= 2
    return number
