"""``featureid train`` where TensorFlow is not installed; the rest is in tests/training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from featureid.errors import UsageError
from featureid.training.options import PUBLISHED, TrainOptions
from tests.commands import run_here


def test_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    line = run_here(capsys, "train", tmp_path, "--output", tmp_path / "m.fidmodel", status=1)

    assert line == (
        "featureid: training needs tensorflow, keras, matplotlib; pip install 'featureid[train]'"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output=m.fidmodel"], "name the images"),
        (["a", "--from-snapshot=b", "--output=m.fidmodel"], "name the images"),
        (["a", "--output=m.keras"], "it must end in .fidmodel"),
        (["a", "--output=none/m.fidmodel"], "in a folder that does not exist"),
        (["a", "--output=m.fidmodel", "--name=a/b"], "cannot be the name of a model"),
        (["--from-snapshot=a", "--base=cnn", "--output=m.fidmodel"], "leave out --base, --preset"),
        (["a", "--output=m.fidmodel", "--epochs=0"], "--epochs is 0; it must be from 1"),
        (["a", "--output=m.fidmodel", "--patience=-1"], "--patience is -1; it must be 1 or more"),
        (["a", "--output=m.fidmodel", "--margin=nan"], "--margin is nan"),
        (["a", "--output=m.fidmodel", "--batch-size=6"], "--batch-size 6 must hold"),
        (["a", "--output=m.fidmodel", "--validation=.5", "--test=.5"], "leave too few classes"),
        (["a", "--output=m.fidmodel", "--raw"], "--raw is for the base cnn"),
        (["a", "--output=m.fidmodel", "--base=cnn", "--loss=whitening"], "not cnn"),
    ],
)
def test_wrong_usage_is_one_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert message in run_here(capsys, "train", *argv, status=2)


def test_the_published_training_is_a_valid_choice() -> None:
    options = TrainOptions(name="published", **PUBLISHED)

    assert (options.mining, options.epochs, options.batch_size) == ("random", 50, 32)
    with pytest.raises(UsageError, match="`mining` is 'hard'"):
        TrainOptions(name="x", mining="hard")  # type: ignore[arg-type]
