"""Batches of a training set, drawn for each epoch from the seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from featureid.training.sampling import Labels, Rows, class_batches, random_triplets

#: Rows of the batches of an epoch.
Plan = Callable[[np.random.Generator], list[Rows]]


def triplet_plan(labels: Labels, triplets: int) -> Plan:
    """Return batches of random triplets: the rows of anchors, then positives, then negatives."""

    def plan(rng: np.random.Generator) -> list[Rows]:
        drawn = random_triplets(labels, rng)
        parts = np.split(drawn, range(triplets, len(drawn), triplets))
        return [part.T.ravel() for part in parts]

    return plan


def class_plan(labels: Labels, classes: int, images: int) -> Plan:
    """Return batches of so many classes with so many images each."""
    return lambda rng: class_batches(labels, classes, images, rng)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """The batches of an epoch, each the rows of arrays and their labels.

    Attributes:
        epoch: which one they are drawn for.

    Args:
        rows: (n, …), what the network takes.
        labels: (n,).
        plan: which rows make up the batches.
        seed: of all choices.
    """

    def __init__(self, rows: npt.NDArray[Any], labels: Labels, plan: Plan, seed: int) -> None:
        super().__init__(workers=1)
        self._rows, self._labels, self._plan, self._seed = rows, labels, plan, seed
        self._planned: tuple[int, list[Rows]] = (-1, [])
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches, which is the same in all epochs."""
        return len(self._batches())

    def __getitem__(self, number: int) -> tuple[npt.NDArray[Any], Labels]:
        """Return a batch."""
        rows = self._batches()[number]
        return np.asarray(self._rows[rows], np.float32), self._labels[rows]

    def _batches(self) -> list[Rows]:
        epoch, batches = self._planned
        if epoch != self.epoch:
            epoch = self.epoch
            batches = self._plan(np.random.default_rng((self._seed, epoch)))
            self._planned = (epoch, batches)
        return batches
