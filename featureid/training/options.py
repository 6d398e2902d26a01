"""What a training is to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from featureid.errors import UsageError

Loss = Literal["triplet", "contrastive", "whitening"]
Mining = Literal["random", "semi-hard", "batch-hard"]
Watched = Literal["auc", "val_loss"]
Augment = Literal["none", "mirror", "published"]

#: The published network, which is trained from scratch.
CNN = "cnn"
#: What the published method says of training.
PUBLISHED: dict[str, Any] = {
    "base": CNN,
    "loss": "triplet",
    "mining": "random",
    "margin": 0.2,
    "learning_rate": 1e-3,
    "batch_size": 32,
    "epochs": 50,
    "patience": None,
    "validation": 0.2,
    "augment": "published",
    "input_size": 160,
    "dimension": 128,
}

#: Training on photos and edited copies of them, without labels.
PHOTOS: dict[str, Any] = {
    "loss": "contrastive",
    "temperature": 0.1,
    "images_per_class": 2,
    "batch_size": 256,
    "validation": 0.1,
    "test": 0.1,
    "watched": "val_loss",
}

# Three times the two pixels that a convolution takes, and the halves that pooling takes.
_LEAST_SIDE, _MOST_SIDE = 22, 1024


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Attributes:
        name: of the model.
        base: ``cnn``, the published network; or a model whose network stays as it is, and gets a
            new reduction.
        loss: ``triplet``; ``contrastive``, NT-Xent; or ``whitening``, a matrix in closed form.
        mining: which triplets are looked at.
        margin: of the triplet loss, in squared distances, of which the largest is 4.
        temperature: of the contrastive loss.
        epochs: at most.
        batch_size: images in a batch; with random mining, triplets.
        images_per_class: of each class in a batch.
        learning_rate: of Adam.
        patience: stop after so many epochs in which the watched figure gets no better, and take the
            best epoch; None to go to the end and take the last.
        watched: the figure of the validation classes: ``auc``, or ``val_loss``, which still tells
            epochs apart where the AUC is nearly 1.
        validation: share of the classes by which training is watched.
        test: share of the classes that tell at the end how good the model is.
        augment: what varies the images of ``cnn`` at random: ``none``; ``mirror``; or
            ``published``, which turns and shifts them far as well, and learns more slowly.
        raw: train ``cnn`` on its output as it is, not on vectors of unit length.
        input_size: pixels on a side of the input of ``cnn``.
        dimension: of the vectors.
        seed: of everything that is random.

    Raises:
        UsageError: a value is out of range, or does not fit another.
    """

    name: str
    base: str = "image"
    loss: Loss = "triplet"
    mining: Mining = "semi-hard"
    margin: float = 0.2
    temperature: float = 0.05
    epochs: int = 50
    batch_size: int = 64
    images_per_class: int = 4
    learning_rate: float = 1e-3
    patience: int | None = 10
    watched: Watched = "auc"
    validation: float = 0.2
    test: float = 0.2
    augment: Augment = "mirror"
    raw: bool = False
    input_size: int = 160
    dimension: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kinds in (
            ("loss", Loss),
            ("mining", Mining),
            ("watched", Watched),
            ("augment", Augment),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise UsageError(f"`{name}` is {getattr(self, name)!r}; one of {get_args(kinds)}")
        limits = {
            "epochs": (1, 100_000),
            "batch_size": (2, 65_536),
            "images_per_class": (2, 1024),
            "input_size": (_LEAST_SIDE, _MOST_SIDE),
            "dimension": (1, 65_536),
            "seed": (0, 2**31 - 1),
            "margin": (1e-6, 4),
            "temperature": (1e-3, 10),
            "learning_rate": (1e-9, 10),
            "validation": (0.01, 0.8),
            "test": (0.01, 0.8),
        }
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"`{name}` is {getattr(self, name)}; it must be from {low:g} to {high:g}"
                )
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"`patience` is {self.patience}; it must be 1 or more")
        if self.validation + self.test > 0.9:
            raise UsageError(
                f"`validation` {self.validation:g} and `test` {self.test:g} leave too few classes "
                "to learn from"
            )
        if self.base == CNN and self.loss == "whitening":
            raise UsageError("`loss='whitening'` is for the features of a trained network, not cnn")
        if self.base != CNN and self.raw:
            raise UsageError("`raw` is for the base cnn")
        if (self.loss == "triplet" and self.mining != "random") or self.loss == "contrastive":
            self._check_batch()

    def _check_batch(self) -> None:
        if self.batch_size < 2 * self.images_per_class:
            raise UsageError(
                f"`batch_size` {self.batch_size} must hold at least two classes of "
                f"{self.images_per_class} images (`images_per_class`)"
            )
