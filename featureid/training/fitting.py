"""Fit a network: epochs that can be continued after a crash, validation, and a guard.

What an epoch does follows from the seed and its number: its batches, and the state of the layers
that vary images.  Keras saves the weights, and the state of the optimizer, after every epoch, and
this module the figures; so a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from featureid.atomic import replace_file
from featureid.errors import TrainingError
from featureid.training.batches import Batches
from featureid.training.losses import Terms, active_share, mean_loss, spread

_LOG = logging.getLogger(__name__)

_BACKUP, _FIGURES, _BEST = "backup", "figures.json", "best.weights.h5"
# Collapse: all embeddings in one place.  The loss is then the margin, and the AUC may look well.
# On letters of 23 fonts, batch-hard stays at 1.4 to 1.7 % of the spread, the loss at the margin.
_SPREAD_LEFT, _LOSS_NEAR_MARGIN = 0.02, 0.01

# Batches of which Keras asks nothing in between: a head learns from one in a millisecond.
_STEPS = 16

#: The figures of one epoch by name.
Figures = dict[str, float]


@dataclass(frozen=True)
class FitOptions:
    """How a network is fitted.

    Attributes:
        epochs: at most.
        learning_rate: of Adam.
        seed: of everything that is random.
        patience: stop after so many epochs in which no watched figure is better; None for never.
        watched: the figure of validation that tells the best epoch: the highest ``auc``, or the
            lowest ``val_loss``.
        margin: of the triplet loss; None for another loss, which has no active triplets to
            count and cannot collapse in the way that the guard looks for.
        tensorboard: a folder for TensorBoard; "" for none.
    """

    epochs: int
    learning_rate: float
    seed: int
    patience: int | None = None
    watched: str = "auc"
    margin: float | None = None
    tensorboard: str = ""


def fit(
    model: keras.Model,
    batches: Batches,
    terms: Terms,
    validate: Callable[[], Figures],
    options: FitOptions,
    folder: Path,
    random_layers: Sequence[keras.Layer] = (),
    report: Callable[[int, Figures], None] = lambda epoch, figures: None,
) -> list[Figures]:
    """Fit a model, from the last finished epoch in ``folder`` if there is one.

    The model ends with the weights of the best epoch by validation, or of the last one if there is
    no patience.

    Args:
        model: from inputs to embeddings; what it is in the beginning.
        batches: what it is fitted to.
        terms: the loss.
        validate: computes figures of the model as it is, ``spread`` and the watched one among them.
        options: how.
        folder: for what a continued run needs; it exists.
        random_layers: layers of the model that draw random numbers.
        report: called after each epoch.

    Returns:
        The figures of each epoch; those before the first one come first.

    Raises:
        TrainingError: the embeddings have collapsed, or are not finite.
    """
    record = _Record(folder, validate, options, report)
    model.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss=mean_loss(terms),
        metrics=[spread] if options.margin is None else [active_share(terms), spread],
        steps_per_execution=_STEPS,
    )
    callbacks = [
        _Epochs(batches, random_layers, options.seed),
        keras.callbacks.BackupAndRestore(str(folder / _BACKUP), delete_checkpoint=False),
        record,
    ]
    if options.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(options.tensorboard))
    model.fit(batches, epochs=options.epochs, callbacks=callbacks, verbose=0, shuffle=False)
    if options.patience is not None and record.best:
        model.load_weights(folder / _BEST)
    return record.figures


class _Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Tell the batches and the random layers which epoch begins."""

    def __init__(self, batches: Batches, layers: Sequence[keras.Layer], seed: int) -> None:
        super().__init__()
        self._batches, self._layers, self._seed = batches, layers, seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set what is random to where this epoch begins."""
        self._batches.epoch = epoch
        for number, layer in enumerate(self._layers):
            draws = np.random.default_rng((self._seed, epoch, number))
            layer.generator.state.assign(draws.integers(0, 2**31, 2))


class _Record(keras.callbacks.Callback):  # type: ignore[misc]
    """Validate after each epoch, note the figures, keep the best weights, and know when to stop.

    Attributes:
        figures: of each epoch, after those of the untrained model.
    """

    def __init__(
        self,
        folder: Path,
        validate: Callable[[], Figures],
        options: FitOptions,
        report: Callable[[int, Figures], None],
    ) -> None:
        super().__init__()
        self._folder, self._validate, self._options = folder, validate, options
        self._report = report
        self.figures: list[Figures] = []

    @property
    def best(self) -> int:
        """The number of the best epoch by the watched figure, from 1; the first of equals."""
        values = [figures[self._options.watched] for figures in self.figures[1:]]
        best = min if self._options.watched == "val_loss" else max
        return values.index(best(values)) + 1 if values else 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Read the figures of finished epochs, or measure the model before the first."""
        path = self._folder / _FIGURES
        if path.exists():
            finished = self.model._initial_epoch or 0
            self.figures = msgspec.json.decode(path.read_bytes(), type=list[Figures])
            del self.figures[1 + finished :]
        else:
            self.figures = [self._validate()]
            self._write()
            self._report(0, self.figures[0])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the figures of an epoch."""
        trained = {name: float(value) for name, value in (logs or {}).items()}
        if not np.isfinite(trained["loss"]):
            raise TrainingError(
                f"the loss is {trained['loss']} in epoch {epoch + 1}: `learning_rate` is too "
                f"high, at {self._options.learning_rate:g}"
            )
        figures = trained | self._validate()
        self.figures.append(figures)
        self._guard(figures, epoch)
        if self._options.patience is not None:
            if self.best == len(self.figures) - 1:
                self.model.save_weights(self._folder / _BEST, overwrite=True)
            elif len(self.figures) - 1 - self.best >= self._options.patience:
                self.model.stop_training = True
        self._write()
        self._report(epoch + 1, figures)

    def _guard(self, figures: Figures, epoch: int) -> None:
        margin = self._options.margin
        if margin is None or figures["spread"] >= _SPREAD_LEFT * self.figures[0]["spread"]:
            return
        if abs(figures["loss"] - margin) <= _LOSS_NEAR_MARGIN * margin:
            raise TrainingError(
                f"the embeddings have collapsed in epoch {epoch + 1}: they are spread by "
                f"{figures['spread']:.2g}, {self.figures[0]['spread']:.2g} in the beginning, and "
                f"the loss is the margin, {margin:g}, so that nothing more is learned. Choose "
                "`mining='semi-hard'` or a lower `learning_rate`"
            )

    def _write(self) -> None:
        replace_file(self._folder / _FIGURES, [msgspec.json.encode(self.figures)])
