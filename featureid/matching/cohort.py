"""Cohort correction: how much a feature ID resembles other people's, taken off its scores.

Some faces are like many others, and score higher with strangers. The **correction** h of a feature
ID is the mean of its 50 highest scores with a **cohort**, some thousand faces of people who are in
none of the pictures that are compared; the corrected score of two is their score less (h + h') / 2,
see :mod:`featureid.matching.scores`. (In speaker recognition, adaptive symmetric score
normalization does the same, and divides by the spread.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.matching.blas import threads_beside_blas
from featureid.parallel import map_in_order

Matrix = npt.NDArray[np.float32]

#: How many of the highest scores with the cohort count.
NEAREST = 50
#: A smaller cohort is refused: with 200 faces, corrections do more harm than good.
LEAST_COHORT = 500
_ROWS_AT_ONCE = 1 << 10


@dataclass(frozen=True)
class Cohort:
    """The faces of other people.

    Attributes:
        vectors: float32 (m, d).
    """

    vectors: Matrix

    def __post_init__(self) -> None:
        if len(self.vectors) < LEAST_COHORT:
            raise UsageError(
                f"the `cohort` has {len(self.vectors)} feature IDs; give {LEAST_COHORT} or more, "
                "of people who are in none of the pictures that are compared"
            )

    def corrections(
        self,
        vectors: Matrix,
        progress: Callable[[int], Any] = lambda rows: None,
        threads: int = 0,
    ) -> Matrix:
        """Return the correction of each feature ID, float32 (n,).

        Args:
            vectors: float32 (n, d).
            progress: called with the number of rows that are done.
            threads: to use; 0 means one per CPU core.
        """
        # In float64, of whose last bits, which depend on the batch, no trace is left in float32.
        cohort = self.vectors.T.astype(np.float64)
        corrections = np.empty(len(vectors), np.float32)

        def correct(start: int) -> None:
            some = slice(start, start + _ROWS_AT_ONCE)
            scores = vectors[some] @ cohort
            scores.partition(-NEAREST, axis=1)
            corrections[some] = np.sort(scores[:, -NEAREST:], axis=1).mean(axis=1)

        with threads_beside_blas(threads) as count:
            starts = range(0, len(vectors), _ROWS_AT_ONCE)
            for start, _ in map_in_order(correct, starts, count):
                progress(min(_ROWS_AT_ONCE, len(vectors) - start))
        return corrections
