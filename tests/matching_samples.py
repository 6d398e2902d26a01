"""Vectors for the tests of matching: random, clustered, tied and duplicate ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.floating]) -> Matrix:
    """Return rows divided by their lengths, float32."""
    wide = vectors.astype(np.float64)
    rows: Matrix = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    return rows


def sample(kind: str, rows: int, dimension: int, seed: int) -> Matrix:
    """Return unit vectors (rows, dimension) of a kind: ``random``, ``clustered``, ``tied``.

    Of ``tied`` ones, few different numbers occur, so that many scores are equal; a third of the
    rows are copies of others.
    """
    random = np.random.default_rng(seed)
    if kind == "random":
        return unit(random.standard_normal((rows, dimension)))
    if kind == "clustered":
        centers = random.standard_normal((max(1, rows // 10), dimension))
        near = centers[random.integers(len(centers), size=rows)]
        return unit(near + 1e-4 * random.standard_normal((rows, dimension)))
    signs = unit(random.choice([-1.0, 1.0], (rows, dimension)))
    copies = random.integers(rows, size=rows // 3)
    signs[: len(copies)] = signs[copies]
    return signs


def near_pairs(count: int, dimension: int, seed: int) -> Matrix:
    """Return unit vectors, each of which scores from 0.6 to 1 with the one half of them later."""
    random = np.random.default_rng(seed)
    one = sample("random", count, dimension, seed)
    change = random.uniform(0, 1, (count, 1)) * sample("random", count, dimension, seed + 1)
    return np.concatenate([one, unit(one + change)])


def on_surface(rows: int, dimension: int, seed: int) -> Matrix:
    """Return unit vectors that are smooth functions of three numbers, always the same ones."""
    random = np.random.default_rng(0)
    frequencies, phases = random.standard_normal((3, dimension)), random.uniform(0, 7, dimension)
    numbers = np.random.default_rng(seed).standard_normal((rows, 3))
    return unit(np.cos(numbers @ frequencies + phases))


def brute_force(queries: Matrix, gallery: Matrix, keys: list[str]) -> list[list[tuple[float, int]]]:
    """Return for each query all (score, row), in the order that the definition asks for.

    It adds up the exact products of two numbers in another way than the product code does.
    """
    return [
        sorted(
            ((_score(query, row), number) for number, row in enumerate(gallery)),
            key=lambda match: (-match[0], keys[match[1]], match[1]),
        )
        for query in queries
    ]


def _score(one: Matrix, other: Matrix) -> float:
    terms = [float(a) * float(b) for a, b in zip(one, other, strict=True)]
    while len(terms) > 1:
        half = (len(terms) + 1) // 2
        ahead, behind = terms[:half], terms[half:]
        terms = [a + b for a, b in zip(ahead, behind, strict=False)] + ahead[len(behind) :]
    return float(np.float32(terms[0]))
