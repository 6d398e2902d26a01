"""Fitting: it learns, its export gives the same numbers, and it can be killed and continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import TrainingError
from featureid.training import train as training
from featureid.training.fitting import Figures
from featureid.training.options import TrainOptions
from featureid.training.split import Split
from tests.training.shapes import SIDE, shapes

_PIXELS, _LABELS = shapes(12, 6)
_SPLIT = Split(np.arange(48), np.arange(48, 60), np.arange(60, 72), left_out=())


def _options(**more: Any) -> TrainOptions:
    values = {"base": "cnn", "input_size": SIDE, "epochs": 3, "batch_size": 24, "dimension": 16}
    return TrainOptions(name="shapes", **{**values, **more})


def _train(folder: Path, options: TrainOptions, **more: Any) -> training.Trained:
    folder.mkdir(exist_ok=True)
    return training.train_cnn(options, _PIXELS, _LABELS, _SPLIT, folder, **more)


def test_training_learns_what_tells_classes_apart(tmp_path: Path) -> None:
    trained = _train(tmp_path, _options(epochs=8, augment="none"))

    assert trained.after.auc.value > trained.before.auc.value + 0.05
    assert trained.epochs[-1]["loss"] < trained.epochs[1]["loss"]
    assert trained.bundle.dimension == 16
    assert trained.bundle.statistics["parameters"] > 90_000


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    one = _train(tmp_path / "one", _options(seed=3))
    other = _train(tmp_path / "other", _options(seed=3))
    third = _train(tmp_path / "third", _options(seed=4))

    assert one.bundle.digest == other.bundle.digest
    assert one.bundle.digest != third.bundle.digest


class _Killed(Exception):
    pass


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path) -> None:
    options = _options(epochs=4, patience=3)
    whole = _train(tmp_path / "whole", options)

    def kill(epoch: int, figures: Figures) -> None:
        if epoch == 2:
            raise _Killed

    with pytest.raises(_Killed):
        _train(tmp_path / "killed", options, report=kill)
    continued = _train(tmp_path / "killed", options)

    assert continued.bundle.digest == whole.bundle.digest
    assert continued.epochs == whole.epochs


@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_random_mining_and_contrastive_loss_train(tmp_path: Path, loss: str) -> None:
    trained = _train(
        tmp_path, _options(loss=loss, mining="random", epochs=1, raw=loss == "triplet")
    )

    assert len(trained.epochs) == 2
    assert np.isfinite(trained.epochs[1]["loss"])


def test_collapse_is_noticed(tmp_path: Path) -> None:
    options = _options(mining="batch-hard", learning_rate=0.05, epochs=30, augment="none")

    with pytest.raises(TrainingError, match=r"collapsed in epoch .* Choose `mining='semi-hard'`"):
        _train(tmp_path, options)
