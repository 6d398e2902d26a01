"""The options of jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from featureid.embedding import EmbedSettings
from featureid.errors import UsageError
from featureid.inputs import InputSource
from featureid.matching.duplicates import DuplicateOptions, Keep
from featureid.refresh import RefreshPolicy
from featureid.storage.safeguards import Safeguards

#: The previous snapshot that is the current one of the output, if there is one.
AUTO: Final = "auto"
Hash = Literal["auto", "pdq", "none"]


@dataclass(frozen=True)
class RefreshOptions:
    """What an incremental run carries over, and from where.

    Attributes:
        previous: ``auto``, an output folder or a snapshot's folder; "" for a full run, which
            compares with no snapshot.
        policy: what counts as unchanged.
    """

    previous: str = AUTO
    policy: RefreshPolicy = field(default_factory=RefreshPolicy)

    def __post_init__(self) -> None:
        if not self.previous and self.policy != RefreshPolicy():
            raise UsageError(
                "`check`, `retry_failed` and `re_embed` compare with a previous snapshot; leave "
                "out `no_previous`"
            )


@dataclass(frozen=True)
class EmbedOptions:
    """What to embed, with which model, and where to write it.

    Attributes:
        sources: the inputs, at least one.
        output: the folder that holds snapshots; local or a URI.
        model: a known model's name, or the path of a model bundle.
        num_shards: files to spread the rows over; None chooses by the number of images.
        dtype: how vectors are stored, ``float32`` or ``float16``.
        settings: threads, batch size, limits, backend and faces; its ``hash`` is ``hash`` below.
        refresh: what is carried over from a previous snapshot.
        safeguards: what the run may do to the snapshots that it follows.
        hints: Beam's resource hints for the workers that embed, by name.
        hash: the perceptual hash to store beside the vectors, ``pdq`` or ``none``; ``auto`` for
            what the previous snapshot has and, without one, ``pdq`` for a model of whole images.
        max_failure_rate: the share of the images that may fail in a run that publishes.
        publish_anyway: publish even if more have failed; the run fails all the same.
    """

    sources: tuple[InputSource, ...]
    output: str
    model: str = "image"
    num_shards: int | None = None
    dtype: str = "float32"
    settings: EmbedSettings = field(default_factory=EmbedSettings)
    refresh: RefreshOptions = field(default_factory=RefreshOptions)
    safeguards: Safeguards = field(default_factory=Safeguards)
    hints: dict[str, str] = field(default_factory=dict)
    hash: Hash = AUTO
    max_failure_rate: float = 1.0
    publish_anyway: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise UsageError("no input: name folders, globs or images, or a `manifest`")
        if self.num_shards is not None and self.num_shards < 1:
            raise UsageError(f"`num_shards` is {self.num_shards}; it must be 1 or more")
        if self.hash not in get_args(Hash):
            raise UsageError(f"`hash` is {self.hash!r}; known: {', '.join(get_args(Hash))}")
        if not 0 <= self.max_failure_rate <= 1:
            raise UsageError(f"`max_failure_rate` is {self.max_failure_rate}; give 0 to 1")


@dataclass(frozen=True)
class MatchOptions:
    """Which snapshots to match, what counts as a match, and where to write the matches.

    Attributes:
        query: output folder or snapshot whose rows are searched for; local or a URI.
        gallery: the same of those that are searched.
        output: the folder that holds results; "" only if nothing is run.
        k: matches per query; None means 10 or, with a threshold, all.
        threshold: the lowest score; None for no limit.
        query_since: an older snapshot, by its folder or its id beside ``query``: only rows that are
            new since then are searched for. ``auto`` is the snapshot that the current result of the
            output was made of, if there is one; "" for all rows.
        gallery_since: the same for the rows that are searched.

    Raises:
        UsageError: a value is missing or out of range.
    """

    query: str
    gallery: str
    output: str
    k: int | None = None
    threshold: float | None = None
    query_since: str = ""
    gallery_since: str = ""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UsageError(f"`k` is {self.k}; give 1 or more")
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UsageError(f"`threshold` is {self.threshold}; a score is from -1 to 1")


@dataclass(frozen=True)
class GroupOptions:
    """Which snapshot to look for duplicates in, how to group them, and where to write the groups.

    Attributes:
        snapshot: output folder or snapshot; local or a URI.
        output: the folder that holds results; "" only if nothing is run.
        threshold: the lowest score of a member with the center of its group.
        keep: which image of a group to keep.

    Raises:
        UsageError: a value is out of range or not known.
    """

    snapshot: str
    output: str
    threshold: float
    keep: Keep = "largest"

    def __post_init__(self) -> None:
        self.duplicates()

    def duplicates(self) -> DuplicateOptions:
        """Return how duplicates are found and grouped."""
        return DuplicateOptions(self.threshold, self.keep, method="cells")
