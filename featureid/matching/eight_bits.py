"""Rows with eight bits a number, by which candidates for a single query are found.

Searching for one query takes as long as reading all rows from memory does, and these rows are a
fourth as long. The numbers of query and rows are rounded to multiples of a step, whose products are
sums of integers. What that changes of a product is bounded by the lengths of what it changes of the
query and of the row (Cauchy and Schwarz), so that candidates come with a bound of the scores of all
other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.scores import UNIT_TOLERANCE, rounding_error
from featureid.storage.arrow import load_package

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# Multiples are from -127 to 127.
_MOST = 127
# Some megabytes.
_ROWS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class EightBits:
    """Rows whose numbers are rounded to multiples of a step.

    Attributes:
        step: the step.
        change: the largest Euclidean distance of a row from what it was rounded to.
        index: a FAISS index of the multiples.
    """

    step: float
    change: float
    index: Any

    @classmethod
    def of(cls, blocks: Callable[[], Iterable[Matrix]], dimension: int) -> EightBits:
        """Return rows of unit length, at least one, which are read twice, with eight bits a number.

        Raises:
            UsageError: faiss is not installed.
        """
        faiss = load_package("faiss", "featureid[search]")
        step = max(max(part.max(), -part.min()) for part in _parts(blocks())) / np.float32(_MOST)
        # Signed bytes, without a scale of FAISS's own.
        signed = faiss.ScalarQuantizer.QT_8bit_direct_signed
        index = faiss.IndexScalarQuantizer(dimension, signed, faiss.METRIC_INNER_PRODUCT)
        change = 0.0
        for part in _parts(blocks()):
            multiples = np.rint(part / step)
            index.add(multiples)
            multiples *= step
            multiples -= part
            change = max(change, float(np.einsum("ij,ij->i", multiples, multiples).max()))
        return cls(float(step), change**0.5, index)

    def nearest(self, query: Matrix, count: int) -> tuple[Rows, float]:
        """Return about the nearest rows of a query, and a bound of the scores of all others.

        Args:
            query: float32 (1, d) of unit length.
            count: how many, from 1 to the number of rows.

        Returns:
            Row numbers (count,), and a score that no other row exceeds.
        """
        wide = query.astype(np.float64)
        step = np.abs(wide).max() / _MOST
        # Whole numbers: where FAISS multiplies integers, it would cut off what is behind the point.
        multiples = np.rint(wide / step)
        products, rows = self.index.search(multiples.astype(np.float32), count)
        if count == self.index.ntotal:
            return rows[0], -np.inf
        change = float(np.linalg.norm(wide - multiples * step))
        longest = 1 + UNIT_TOLERANCE
        # Several times what rounding to float32 does to the product and to what was measured.
        rounding = 4 * rounding_error(query.shape[1])
        margin = change * (longest + self.change) + longest * self.change + rounding
        return rows[0], float(products[0, -1]) * self.step * step + margin


def _parts(blocks: Iterable[Matrix]) -> Iterator[Matrix]:
    for block in blocks:
        for start in range(0, len(block), _ROWS_AT_ONCE):
            yield block[start : start + _ROWS_AT_ONCE]
