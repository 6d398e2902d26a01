"""What makes searches of a snapshot faster: sign codes for thresholds, inverted lists for the rest.

Both find most of what exact search finds, and have measured how much. Where that is less than what
was wanted of the index, search stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from featureid.matching.codes import SignCodes
from featureid.matching.inverted_lists import InvertedLists
from featureid.matching.recall import Recall
from featureid.storage.reader import Snapshot
from featureid.storage.selection import Selection

#: The share of the matches that an index is wanted to find.
DEFAULT_RECALL = 0.99


@dataclass(frozen=True)
class Index:
    """The index of a snapshot.

    Attributes:
        wanted: the share of the matches that is to be found.
        codes: for searches by threshold.
        lists: for the nearest rows.
    """

    wanted: float
    codes: SignCodes
    lists: InvertedLists

    @classmethod
    def of(cls, snapshot: Snapshot, recall: float = DEFAULT_RECALL) -> Index:
        """Make the index of a snapshot, which is read five times.

        Raises:
            StorageError: the snapshot cannot be read.
        """
        blocks, dimension = Selection(snapshot).batches, snapshot.model.dimension
        lists = InvertedLists.of(blocks, dimension, snapshot.num_rows, recall)
        return cls(recall, SignCodes.of(blocks, dimension), lists)

    def recall(self, k: int | None, threshold: float | None) -> Recall | None:
        """Return what was measured for such a search; None if that could not be measured."""
        if threshold is not None:
            return self.codes.recall(threshold)
        probing = None if k is None else self.lists.probing(k)
        return None if probing is None else probing.recall

    def serves(self, k: int | None, threshold: float | None) -> bool:
        """Return whether it finds as much as is wanted."""
        recall = self.recall(k, threshold)
        return recall is not None and recall.share >= self.wanted
