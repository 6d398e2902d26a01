"""Identify people: of all pictures of known people, which is most like a face?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.matching.cohort import Cohort
from featureid.matching.exact import search_top
from featureid.matching.scores import query_vectors, row_vectors

Matrix = npt.NDArray[np.float32]

# "Anna 2", "anna_02", "anna-2" and "Anna (2)" are pictures of one person.
_NUMBER = re.compile(r"[\s_-]*(\d+|\(\d+\))$")


def person_of(key: str) -> str:
    """Return the person whom a picture shows: its folder or, without one, its name less a number.

    >>> person_of("Anna/2024/1.jpg"), person_of("Anna.jpg"), person_of("anna_02.jpg")
    ('Anna', 'Anna', 'anna')

    Args:
        key: the picture's path within the folder of all people; of an absolute path or a URI, it is
            the last folder that counts.
    """
    path = PurePosixPath(key)
    folders = path.parts[:-1]
    if path.is_absolute() or "://" in key:
        return folders[-1]
    return folders[0] if folders else _NUMBER.sub("", path.stem) or path.stem


@dataclass(frozen=True, slots=True)
class Likeness:
    """The known person whom a face is most like.

    Attributes:
        person: who.
        key: the most similar picture of that person.
        score: their score, see :mod:`featureid.matching.scores`.
    """

    person: str
    key: str
    score: float


class People:
    """Known people, each with one or several faces; the score of a person is that of the best.

    Args:
        keys: the picture of each face; :func:`person_of` names its person.
        vectors: the faces, float32 (n, dimension), of unit length.

    Attributes:
        names: the people, sorted.

    Raises:
        UsageError: there is nobody.
    """

    def __init__(self, keys: Sequence[str], vectors: Matrix) -> None:
        if not len(keys):
            raise UsageError("there is no face of a known person")
        self._keys = keys
        self._vectors = np.ascontiguousarray(vectors)
        self.names = sorted({person_of(key) for key in keys})

    def most_like(self, vectors: Matrix, cohort: Cohort | None = None) -> list[Likeness]:
        """Return for each face whom it is most like; ties go by key.

        Args:
            vectors: the faces, float32 (n, dimension).
            cohort: what scores are corrected by; None for plain scores.
        """
        queries, rows = vectors, self._vectors
        if cohort is not None:
            queries = query_vectors(vectors, cohort.corrections(vectors))
            rows = row_vectors(rows, cohort.corrections(rows))
        found = search_top(queries, lambda: [rows], 1, self._sort_keys)
        likenesses = []
        for matches in found:
            key = self._keys[matches.rows[0]]
            likenesses.append(Likeness(person_of(key), key, float(matches.scores[0])))
        return likenesses

    def _sort_keys(self, rows: list[int]) -> list[str]:
        return [self._keys[row] for row in rows]
