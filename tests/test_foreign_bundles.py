"""Bundles of others: what would end the process that loads them is tried elsewhere, once."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featureid
from featureid.cli.main import main
from featureid.embedding import EmbedSettings, describe_model
from featureid.errors import ModelError
from featureid.model_store import open_model
from featureid.models import ModelBundle, resolve_model, write_bundle
from featureid.models.building import trial
from featureid.models.bundle import content_digest, with_own_digest
from tests.odd_networks import crashing, endless, without_an_input
from tests.tiny_networks import TFLITE, onnx_bundle, tflite_bundle


def onnx_of(network: bytes) -> ModelBundle:
    """Return a bundle with an ONNX network of 8 x 8 pixels to 3 features."""
    plain = onnx_bundle(reduction=None, dimension=4)
    source = replace(plain.network.input, name="x")
    return with_own_digest(
        replace(
            plain,
            native_dimension=3,
            dimension=3,
            preprocessing=replace(plain.preprocessing, width=8),
            network=replace(plain.network, data=network, input=source, output="y"),
        )
    )


def litert_of(network: bytes) -> ModelBundle:
    """Return a bundle with a LiteRT network."""
    plain = tflite_bundle()
    return with_own_digest(replace(plain, network=replace(plain.network, data=network)))


DEADLY: dict[str, tuple[Callable[[], ModelBundle], str]] = {
    "LiteRT, a convolution without weights": (
        lambda: litert_of(without_an_input(TFLITE, 0, 1)),
        # What lies before the first tensor in memory decides between these.
        "(it crashed|it needs more than|model 'tiny' cannot be loaded by LiteRT)",
    ),
    "ONNX, the lowest integer divided": (
        lambda: onnx_of(crashing()),
        r"it crashed the process that tried it \(signal SIGFPE",
    ),
    "ONNX, endless": (lambda: onnx_of(endless()), "it did not finish within 2 s; give it longer"),
}


@pytest.mark.parametrize("kind", DEADLY)
def test_a_sealed_bundle_that_would_end_the_process_is_one_line(
    kind: str,
    tmp_path: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, said = DEADLY[kind]
    if "SIGFPE" in said and platform.machine() != "x86_64":
        pytest.skip("this division ends x86 processes only")
    if "2 s" in said:
        monkeypatch.setattr(trial, "_SECONDS", 2.0)
    file = tmp_path / "deadly.fidmodel"
    file.write_bytes(write_bundle(bundle()))
    photo = str(photos / "small" / "coffee.jpg")
    assert main(["compare", photo, photo, "--model", str(file)]) == 1
    error = capsys.readouterr().err
    assert re.match(f"featureid: model 'tiny': {said}", error) and error.count("\n") == 1


@pytest.fixture
def unseen(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good bundle, a snapshot with it beside, and a machine that has seen neither.

    Whatever would try it is told that it crashes.
    """
    file = tmp_path / "unseen.fidmodel"
    file.write_bytes(write_bundle(onnx_bundle()))
    output = tmp_path / "ids"
    assert (
        main(["embed", str(photos / "small"), "--output", str(output), "--model", str(file)]) == 0
    )
    (output / "models").mkdir(exist_ok=True)
    digest = onnx_bundle().digest[7:19]
    file.rename(output / "models" / f"tiny-{digest}.fidmodel")
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path / "an empty cache"))
    monkeypatch.setattr(trial, "_CHILD", "none")
    return output


def test_every_door_tries_a_bundle_first(
    unseen: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = map(str, (unseen / "models").iterdir())
    small, photo = str(photos / "small"), str(photos / "small" / "coffee.jpg")
    commands = [
        ["embed", small, "--output", str(tmp_path / "new"), "--model", file],
        ["embed", small, "--output", str(unseen), "--model", file],
        ["plan", small, "--model", file],
        ["compare", photo, photo, "--model", file],
        ["compare", photo, photo, "--model", f"{file}:pooled"],
        ["identify", small, photo, "--model", file],
        ["evaluate", str(photos), "--model", file],
        ["search", str(unseen), "--query", photo],
        ["identify", str(unseen), photo],
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert "model 'tiny': it crashed the process that tried it" in error, (command, error)
    for call in (
        lambda: featureid.generate_feature_id(photo, model=file),
        lambda: list(featureid.embed_images([photo], model=file)),
        lambda: describe_model(file, EmbedSettings()),
    ):
        with pytest.raises(ModelError, match="it crashed the process that tried it"):
            call()
    assert not (tmp_path / "new").exists()


def test_workers_take_what_was_tried_where_the_run_started(unseen: Path) -> None:
    (file,) = (unseen / "models").iterdir()
    bundle = onnx_bundle()
    assert open_model(str(file), bundle.digest, content_digest(bundle)) == bundle


def test_a_trial_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.fidmodel"
    file.write_bytes(write_bundle(onnx_bundle(name="a")))
    bundle = resolve_model(str(file))
    monkeypatch.setattr(trial, "_CHILD", "none")
    assert resolve_model(str(file)) == bundle
    # Another file is another trial, whatever it says of itself.
    assert bundle.reduction is not None
    matrix = bundle.reduction.matrix + np.float32(1)
    other = replace(bundle, reduction=replace(bundle.reduction, matrix=matrix))
    file.write_bytes(write_bundle(with_own_digest(other)))
    with pytest.raises(ModelError, match="it crashed the process that tried it"):
        resolve_model(str(file))
