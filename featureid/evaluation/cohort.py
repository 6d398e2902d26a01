"""Cohort correction: how much a feature ID resembles other people's, taken off its scores.

Some faces are like many others, and score higher with strangers. The correction h of a feature ID
is the mean of its 50 highest scores with a **cohort**, some thousand faces of people who are in
none of the pictures that are compared; the corrected score of two is their score less (h + h') / 2.
It is one number for each vector, so that exact search stays exact. (In speaker recognition,
adaptive symmetric score normalization does the same, and divides by the spread.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

#: How many of the highest scores with the cohort count.
NEAREST = 50
#: A smaller cohort is refused: with 200 faces, corrections do more harm than good.
LEAST_COHORT = 500
_ROWS_AT_ONCE = 1 << 12


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

    def corrections(self, vectors: Matrix) -> Floats:
        """Return the correction of each feature ID, float32 (n, d), as float64 (n,)."""
        found = np.empty(len(vectors))
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            scores = vectors[some] @ self.vectors.T
            highest = np.partition(scores, -NEAREST, axis=1)[:, -NEAREST:]
            found[some] = highest.mean(axis=1, dtype=np.float64)
        return found


def corrected(scores: Matrix, here: Floats, there: Floats) -> Matrix:
    """Return corrected scores, float32: of scores (p,) and the corrections of both sides, (p,)."""
    return (scores.astype(np.float64) - (here + there) / 2).astype(np.float32)
