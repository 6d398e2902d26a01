"""What makes searches of a snapshot faster: sign codes for thresholds, inverted lists for the rest.

Both find most of what exact search finds, and have measured how much. Where that is less than what
was wanted of the index, search stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from featureid.matching.blas import threads_beside_blas
from featureid.matching.codes import SignCodes
from featureid.matching.exact import Blocks
from featureid.matching.inverted_lists import InvertedLists
from featureid.matching.recall import Recall
from featureid.storage.reader import Snapshot
from featureid.storage.selection import ROWS_AT_ONCE, Selection

#: The share of the matches that an index is wanted to find.
DEFAULT_RECALL = 0.99
#: Vectors of so many bytes are held in memory to be searched by an index, or to make one.
MAX_HELD_BYTES = 4 << 30

#: What an index is for: searches for the nearest rows, by a threshold, or both.
Use = Literal["nearest", "threshold", "both"]


@dataclass(frozen=True)
class Index:
    """The index of a snapshot.

    Attributes:
        wanted: the share of the matches that is to be found.
        use: what it is for.
        codes: for searches by threshold; none if it is not for those.
        lists: for the nearest rows; likewise.
    """

    wanted: float
    use: Use
    codes: SignCodes
    lists: InvertedLists

    @classmethod
    def of(cls, snapshot: Snapshot, recall: float = DEFAULT_RECALL, use: Use = "both") -> Index:
        """Make the index of a snapshot, which is read once if it can be held in memory.

        Raises:
            StorageError: the snapshot cannot be read.
            UsageError: faiss is not installed.
        """
        blocks, dimension = _blocks(snapshot), snapshot.model.dimension
        codes, lists = SignCodes.none(dimension), InvertedLists.none(dimension)
        with threads_beside_blas(0) as threads:
            if use != "threshold":
                lists = InvertedLists.of(blocks, dimension, snapshot.num_rows, recall, threads)
            if use != "nearest":
                codes = SignCodes.of(blocks, dimension, threads)
        return cls(recall, use, codes, lists)

    def is_for(self, threshold: float | None) -> bool:
        """Return whether it is for searches by a threshold, or for those without one."""
        return self.use != ("threshold" if threshold is None else "nearest")

    def recall(self, k: int | None, threshold: float | None) -> Recall | None:
        """Return what was measured for such a search; None if that could not be measured."""
        if not self.is_for(threshold):
            return None
        if threshold is not None:
            return self.codes.recall(threshold)
        probing = None if k is None else self.lists.probing(k)
        return None if probing is None else probing.recall

    def serves(self, k: int | None, threshold: float | None) -> bool:
        """Return whether it finds as much as is wanted."""
        recall = self.recall(k, threshold)
        return recall is not None and recall.share >= self.wanted


def _blocks(snapshot: Snapshot) -> Blocks:
    """Return the rows, held in memory unless they are too many."""
    selection = Selection(snapshot)
    if selection.num_rows * snapshot.model.dimension * 4 > MAX_HELD_BYTES:
        return selection.batches
    vectors = selection.vectors()
    starts = range(0, len(vectors), ROWS_AT_ONCE)
    return lambda: (vectors[start : start + ROWS_AT_ONCE] for start in starts)
