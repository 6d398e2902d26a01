"""``featureid train`` as its users run it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featureid.models.bundle import load_bundle
from tests.commands import run_process
from tests.training.shapes import shapes

_CNN = ("--base", "cnn", "--input-size", "24", "--batch-size", "24", "--dimension", "16")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each class, one of a single image, and a file that is none."""
    folder = tmp_path_factory.mktemp("classes")
    pixels, labels = shapes(12, 6)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / f"class {label:02d}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{number}.png")
    (folder / "alone").mkdir()
    Image.fromarray(pixels[0]).save(folder / "alone" / "one.png")
    (folder / "class 00" / "note.jpg").write_text("no image")
    return folder


def _train(*argv: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_process("train", *argv, "--json"))
    return found


def test_a_network_of_ones_own_is_trained_and_used(images: Path, tmp_path: Path) -> None:
    model, curves = tmp_path / "mine.fidmodel", tmp_path / "curves.png"

    found = _train(images, "--output", model, *_CNN, "--epochs=2", "--curves", curves)

    assert found["parts"] == {"train": 48, "validation": 12, "test": 12}
    assert found["left_out"] == ["alone"]
    assert found["failed"] == 1
    assert found["epochs"] == 2
    assert found["before"].keys() == found["after"].keys() == {"auc", "rank1", "recall"}
    with Image.open(curves) as drawn:
        assert drawn.width > 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "mine.fidmodel"]
    out = tmp_path / "out"
    embedded = json.loads(run_process("embed", images, "--output", out, "--model", model, "--json"))
    assert embedded["embedded"] == 73
    described = json.loads(run_process("inspect", out, "--json"))
    assert described["model"]["digest"] == found["digest"]


def test_a_killed_training_is_resumed_and_ends_the_same(images: Path, tmp_path: Path) -> None:
    options = (*_CNN, "--epochs=6", "--patience=0", "--augment=published")
    whole = _train(images, "--output", tmp_path / "whole.fidmodel", *options)
    model = tmp_path / "killed.fidmodel"
    figures = tmp_path / "killed.fidmodel.training" / "figures.json"
    command = [sys.executable, "-m", "featureid", "train", str(images), "--output", str(model)]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:
        while not (figures.exists() and len(json.loads(figures.read_bytes())) > 2):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not model.exists()

    error = run_process("train", images, "--output", model, *options, status=2)
    assert "has a training that has not ended: continue it with --resume" in error
    error = run_process("train", images, "--output", model, *_CNN, "--resume", status=2)
    assert "has a training with other options or images" in error
    resumed = _train(images, "--output", model, *options, "--resume")

    assert resumed["digest"] == whole["digest"]
    assert resumed["after"] == whole["after"]
    assert not figures.parent.exists()


@pytest.mark.parametrize("options", [["--loss=whitening"], ["--loss=contrastive", "--epochs=3"]])
def test_a_head_is_trained_on_features_of_a_snapshot_or_of_images(
    images: Path, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "features"
    run_process("embed", images, "--strip-prefix", images, "--output", out, "--output-layer=pooled")
    labels = tmp_path / "labels.csv"
    keys = [path.relative_to(images) for path in images.rglob("*.png")]
    labels.write_text("path,label\n" + "".join(f"{key},{key.parent}\n" for key in keys))
    split = tmp_path / "split.csv"
    split.write_text(
        "path,label,split\n"
        + "".join(f"{key},{key.parent},{'test' * (key.parent.name < 'class 06')}\n" for key in keys)
    )

    of_images = _train(images, "--output", tmp_path / "a.fidmodel", *options)
    of_rows = _train(out, "--output", tmp_path / "b.fidmodel", *options)
    by_table = _train(out, "--labels", labels, "--output", tmp_path / "c.fidmodel", *options)

    by_split = _train(out, "--labels", split, "--output", tmp_path / "d.fidmodel", *options)

    assert by_split["parts"]["test"] == 36
    assert of_images["parts"] == of_rows["parts"] == by_table["parts"]
    assert of_rows["digest"] == by_table["digest"]
    assert of_rows["after"]["auc"]["value"] == pytest.approx(
        of_images["after"]["auc"]["value"], abs=0.02
    )
    run_process("models", "check", tmp_path / "a.fidmodel")


def test_photos_without_labels_train_a_head(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(110):
        small = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(small).resize((64, 64)).save(photos / f"{number}.png")
    run_process("embed", photos, "--strip-prefix", photos, "--output", out)
    model = tmp_path / "mine.fidmodel"

    found = _train("--from-snapshot", out, "--output", model, "--epochs=3")

    assert found["parts"] == {"train": 880, "validation": 110, "test": 110}
    assert "after 1 to 3 of: jpeg 50, " in load_bundle(model).provenance
    assert found["after"]["auc"]["value"] >= found["before"]["auc"]["value"] - 0.01
    for photo in list(photos.iterdir())[:20]:
        photo.unlink()
    run_process("embed", photos, "--strip-prefix", photos, "--output", out, "--max-deleted=100%")
    error = run_process(
        "train", "--from-snapshot", out, "--output", tmp_path / "x.fidmodel", status=2
    )
    assert "90 photos can be used, and 100 are needed" in error
    assert not (tmp_path / "x.fidmodel.training").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["DATA", "--output", "m.fidmodel", "--base", "imgae"], "unknown model 'imgae'"),
        (["DATA", "--output", "m.fidmodel", "--resume"], "no training to continue"),
        (["DATA/alone", "--output", "m.fidmodel"], "no image is in a folder of its class"),
        (["DATA", "--output", "m.fidmodel", "--dimension", "1281"], "gives only 1280 features"),
    ],
)
def test_wrong_usage_is_one_line(
    images: Path, tmp_path: Path, argv: list[str], message: str
) -> None:
    given = [word.replace("DATA", str(images)).replace("m.", f"{tmp_path}/m.") for word in argv]

    assert message in run_process("train", *given, "--log-level=error", status=2)
    assert not [*tmp_path.iterdir()]


def test_too_few_classes_are_refused_and_leave_nothing(images: Path, tmp_path: Path) -> None:
    table, model = tmp_path / "few.csv", tmp_path / "m.fidmodel"
    places = [
        path for number in range(3) for path in (images / f"class {number:02d}").glob("*.png")
    ]
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in places))

    error = run_process("train", table, "--output", model, *_CNN, status=2)

    assert "of 3 classes with several images, 0 are left to train on" in error
    assert [*tmp_path.iterdir()] == [table]
