"""What an index finds, as it was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recall:
    """How many of the rows that exact search finds an index has found.

    Attributes:
        found: how many it has found.
        pairs: pairs of a query and a row that exact search finds.
        threshold: the lowest score of the pairs; None if the nearest rows were looked for.
        k: how many nearest rows of each query; None for all above the threshold.
    """

    found: int
    pairs: int
    threshold: float | None = None
    k: int | None = None

    @property
    def share(self) -> float:
        """The pairs that were found of all."""
        return self.found / self.pairs

    @property
    def text(self) -> str:
        """What was measured, in words."""
        if self.threshold is None:
            return f"{self.share:.2%} of {self.pairs} rows that are among the {self.k} nearest"
        return f"{self.share:.2%} of {self.pairs} pairs of {self.threshold} or more"
