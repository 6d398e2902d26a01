"""What a nightly run has to do: the listing against the snapshot before, decided without reading.

An image is known by its key and told to be unchanged by its source version.  The images are parted
by the hash of their keys, as rows are into shards, so that each part is compared with one shard of
the previous snapshot, anywhere, and only small records travel between workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from featureid.errors import FeatureIdError, MixedModelsError, StorageError, UsageError
from featureid.inputs import ImageRef
from featureid.storage.records import Failure, ModelInfo, first_difference

Mask = npt.NDArray[np.bool_]
Check = Literal["version", "content"]
_Fate = Literal["changed", "unchanged", "deleted", "retried"]

#: The stage of a failure that stands for a folder, not for an image.
_LIST_STAGE = "list"


@dataclass(frozen=True)
class RefreshPolicy:
    """What counts as unchanged, and what stops a run.

    Attributes:
        check: ``version`` trusts the source version; ``content`` reads every image and trusts the
            SHA-256 of its bytes.
        retry_failed: try known failures again whose images have not changed.
        re_embed: embed every image, changed or not.
        max_deleted: the share of the previous snapshot's images that may be missing in the inputs.
    """

    check: Check = "version"
    retry_failed: bool = False
    re_embed: bool = False
    max_deleted: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.max_deleted <= 1:
            raise UsageError(f"--max-deleted is {self.max_deleted}; give 0 to 1")
        if self.re_embed and self.check == "content":
            raise UsageError("--re-embed embeds every image, --check content what has changed")


@dataclass(frozen=True)
class Changes:
    """How many images of the inputs are what, compared with the previous snapshot.

    Attributes:
        new: not in the previous snapshot.
        changed: in it with another version or none; with ``check="content"`` also those whose
            bytes are still to be compared.
        retried: failures to be tried again though the image has not changed.
        unchanged: carried over, failures included.
        deleted: in the previous snapshot, and not in the inputs.
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
        """Return the numbers after ``same`` images have turned out to have the same content."""
        return replace(self, changed=self.changed - same, unchanged=self.unchanged + same)

    @property
    def images(self) -> int:
        """Images in the inputs."""
        return self.new + self.changed + self.retried + self.unchanged

    @property
    def previous(self) -> int:
        """Images in the previous snapshot."""
        return self.changed + self.retried + self.unchanged + self.deleted

    def to_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class PreviousPart:
    """The previous snapshot as far as one part of the keys goes.

    Attributes:
        keys: of every row, sorted; a key has several rows where an image has several faces.
        versions: the source version of every row.
        digests: (rows, 32) uint8, the SHA-256 of every row's image; None if not needed.
        failures: its failures.
    """

    keys: Sequence[str] = ()
    versions: Sequence[str] = ()
    digests: npt.NDArray[np.uint8] | None = None
    failures: Sequence[Failure] = ()


@dataclass(frozen=True)
class Comparison:
    """An image that is to be embedded only if its content has changed.

    Attributes:
        ref: the image.
        sha256: digest of its content in the previous snapshot, 32 bytes.
        version: its source version there.
    """

    ref: ImageRef
    sha256: bytes
    version: str

    @property
    def touched(self) -> bool:
        """Whether it looks changed by its version."""
        return not self.ref.version or self.ref.version != self.version


@dataclass(frozen=True)
class PartPlan:
    """What to do with one part of the keys.

    Attributes:
        embed: images to embed.
        compare: images to read, and to embed only if their content has changed.
        carry: (rows,) bool, the rows of the previous part that stay as they are.
        failures: known failures that stay as they are.
        changes: how many images are what.
    """

    embed: list[ImageRef] = field(default_factory=list)
    compare: list[Comparison] = field(default_factory=list)
    carry: Mask = field(default_factory=lambda: np.zeros(0, np.bool_))
    failures: list[Failure] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)


def plan_part(
    refs: Iterable[ImageRef],
    previous: PreviousPart,
    policy: RefreshPolicy,
    unlisted: Collection[str] = (),
) -> PartPlan:
    """Decide for every image of one part what is to be done with it.

    Args:
        refs: what the inputs hold, in any order; of several with one key the first by URI counts.
        previous: the same part of the previous snapshot; empty where there is none.
        policy: what counts as unchanged.
        unlisted: keys of folders that could not be listed: what the previous snapshot has below
            them is carried over, since nobody knows that it is gone.
    """
    listed = _unique(refs)
    # Vectors made anew must not be mixed with those that nobody could make anew.
    below = () if policy.re_embed else tuple(f"{folder.rstrip('/')}/" for folder in unlisted)
    plan = PartPlan(carry=np.zeros(len(previous.keys), np.bool_))
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
    for failure in previous.failures:
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
    counts["new"] = len(listed)
    plan.embed.extend(listed.values())
    return replace(plan, changes=Changes(**counts))


def _fate(
    key: str, version: str, ref: ImageRef | None, policy: RefreshPolicy, below: tuple[str, ...]
) -> _Fate:
    """What has become of an image of the previous snapshot, as far as its version tells."""
    if ref is None:
        return "unchanged" if key.startswith(below) else "deleted"
    if policy.re_embed or not ref.version or ref.version != version:
        return "changed"
    return "unchanged"


def _first_rows(keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Key to its rows ``[start, end)``; keys are sorted."""
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


def check_deleted(changes: Changes, max_deleted: float) -> None:
    """Stop a run whose inputs lack too much of what the previous snapshot has.

    Raises:
        FeatureIdError: more than the share ``max_deleted`` is missing.
    """
    if changes.deleted > max_deleted * changes.previous:
        raise FeatureIdError(
            f"{changes.deleted} of the {changes.previous} images of the previous snapshot are not "
            f"in the inputs, more than --max-deleted {max_deleted} allows; nothing is published. "
            "Is a disk not mounted, or a prefix another? If they are really gone, raise "
            "--max-deleted"
        )


def check_same_model(previous: ModelInfo, model: ModelInfo, place: str) -> None:
    """Refuse to carry vectors into a snapshot where they would not compare or not fit.

    Args:
        previous: of the snapshot that rows would be carried from.
        model: of the run.
        place: the previous snapshot.

    Raises:
        MixedModelsError: model, preprocessing or the choice of faces differ.
        StorageError: the same vectors would be stored in another type.
    """
    found = first_difference(previous, model)
    if not found and previous.faces != model.faces:
        found = "choice of faces", previous.faces, model.faces
    if found:
        what, before, now = found
        raise MixedModelsError(
            f"{place} was made with the {what} {before!r} (model {previous.name!r}), this run "
            f"has {now!r} (model {model.name!r}); vectors of both must not be mixed. Add "
            "--re-embed to embed every image anew, or give the old model with --model"
        )
    if previous.dtype != model.dtype:
        raise StorageError(
            f"{place} stores {previous.dtype}, this run {model.dtype}; rows are carried over bit "
            f"for bit or not at all. Give --dtype {previous.dtype}, or --re-embed"
        )


def refreshed_num_shards(wanted: int, previous: int) -> int:
    """Return how many shards a refreshed snapshot should have.

    It is the previous number, so that every shard is made from one, until the files have become
    half or twice as large as they should be; then doubled or halved, so that it is made from few.

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
