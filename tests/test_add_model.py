"""``featureid models``, as a process: networks of other people become models, or one clear line."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featureid
from featureid.cli import main as cli
from featureid.models.bundle import load_bundle, with_own_digest, write_bundle
from tests.foreign_networks import SIDE, TOKENS, convolutional, transformer
from tests.odd_networks import MEANS, crashing, endless, external, hungry, node, onnx_of
from tests.tiny_networks import TFLITE, onnx_bundle, onnx_network

ROOT = Path(__file__).parents[1]
SCALE = ("--mean", "0.5", "--std", "0.5")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder."""
    monkeypatch.setenv("FEATUREID_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


class Command:
    """The command line, in this process; what is tried still runs in a child process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        status = cli.main([str(argument) for argument in arguments])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err

    def succeed(self, *arguments: object) -> dict[str, Any]:
        """Return the JSON that a command prints, which must succeed."""
        status, out, err = self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        found: dict[str, Any] = json.loads(out)
        return found

    def refuse(self, *arguments: object) -> str:
        """Return exit status and the one line with which a command must fail."""
        status, out, err = self.run(*arguments)
        assert status in (1, 2) and not out and err.count("\n") == 1, err
        return f"{status} {err}"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line."""
    return Command(capsys)


def written(folder: Path, data: bytes, name: str = "net.onnx") -> Path:
    """Return the path of a new file."""
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("network", "options", "dimension"),
    [
        (convolutional(64, "nhwc", "uint8"), (), 64),
        (transformer(64, "nhwc", "uint8"), ("--pool", "mean"), 64),
    ],
    ids=["convolutions", "transformer"],
)
def test_a_network_of_uint8_rows_becomes_a_model_that_embeds_photos(
    network: bytes,
    options: tuple[object, ...],
    dimension: int,
    tmp_path: Path,
    photos: Path,
    command: Command,
) -> None:
    file = written(tmp_path, network)
    name = f"mine-{tmp_path.name}"  # featureid keeps the models that it has loaded, by name
    added = command.succeed("models", "add", file, "--name", name, *options)
    assert (added["name"], added["dimension"]) == (name, dimension)
    assert added["images_tried"] == 8 and added["ms_per_image"] > 0
    small = photos / "small"
    command.succeed("embed", small, "--output", tmp_path / "ids", "--model", name)
    snapshot = featureid.open_snapshot(tmp_path / "ids")
    assert snapshot.vectors().shape == (6, dimension)
    assert snapshot.model.digest == added["digest"]
    one = featureid.generate_feature_id(small / "coffee.jpg", model=name)
    (key,) = (key for key in snapshot if key.endswith("coffee.jpg"))
    np.testing.assert_array_equal(snapshot[key], one)


@pytest.mark.parametrize(
    ("network", "pooling", "dimension"),
    [(convolutional(), (), 512), (transformer(), ("--pool", "cls"), 768)],
    ids=["512", "768"],
)
def test_every_command_takes_an_added_model(
    network: bytes,
    pooling: tuple[str, ...],
    dimension: int,
    tmp_path: Path,
    photos: Path,
    command: Command,
) -> None:
    name, file = f"mine-{dimension}", written(tmp_path, network)
    command.succeed("models", "add", file, "--name", name, *SCALE, *pooling)
    small = tmp_path / "photos"
    shutil.copytree(photos / "small", small)
    ids, model = tmp_path / "ids", ("--model", name)
    planned = command.succeed("plan", small, "--output", ids, *model, "--sample", "2")
    assert planned["rows"] == 6
    command.succeed("embed", small, "--output", ids, *model)
    (small / "coffee.jpg").unlink()
    shutil.copy(photos / "small" / "chelsea.jpg", small / "new.jpg")
    night = command.succeed("embed", small, "--output", ids, *model, "--max-deleted", "50%")
    assert night["rows"] == 6 and night["changes"]["new"] == 1
    assert command.succeed("inspect", ids)["model"]["dimension"] == dimension
    assert command.succeed("verify", ids)["rows"] == 6
    command.succeed("export", ids, tmp_path / "out.parquet", "--to", "parquet")
    command.succeed("import", tmp_path / "out.parquet", "--output", tmp_path / "imported")
    before, after = featureid.open_snapshot(ids), featureid.open_snapshot(tmp_path / "imported")
    assert before.vectors().shape == (6, dimension)
    np.testing.assert_array_equal(after.vectors(), before.vectors())
    rocket = photos / "small" / "rocket.jpg"
    found = command.succeed("search", ids, "--query", rocket, "-k", "1")
    assert "rocket.jpg" in json.dumps(found)
    compared = command.succeed("compare", rocket, small / "new.jpg", *model)
    assert compared["model"]["dimension"] == dimension and compared["cosine"] < 1


def test_the_commands_run_as_processes(tmp_path: Path, models: Path) -> None:
    file = written(tmp_path, convolutional(16))
    add = ["models", "add", str(file), "--name", "mine", *SCALE]
    for arguments, expected in (
        (add, "dimension            16\n"),
        (["models"], "mine        any"),
    ):
        line = [sys.executable, "-m", "featureid", *arguments]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "") and expected in done.stdout


def test_added_models_are_listed_described_checked_and_removed(
    tmp_path: Path, models: Path, command: Command
) -> None:
    file = written(tmp_path, convolutional(16))
    terms = ("--license", "MIT", "--provenance", "trained by a test")
    added = command.succeed("models", "add", file, "--name", "mine", *SCALE, *terms)
    assert added["path"] == str(models / "mine.fidmodel")
    assert added["provenance"].startswith("trained by a test, from net.onnx (sha256 ")
    listed = command.succeed("models")
    assert [model["name"] for model in listed["models"] if not model["known"]] == ["mine"]
    assert listed["models"][-1]["license"] == "MIT" and listed["models_folder"] == str(models)
    assert listed == command.succeed("models", "list")
    assert command.succeed("models", "describe", "mine")["digest"] == added["digest"]
    assert command.succeed("models", "check", "mine")["images_tried"] == 8
    (models / "broken.fidmodel").write_bytes(b"PK")
    assert "broken      cannot be used: model bundle" in command.run("models")[1]
    # A name is not taken twice, nor that of a known model, and a known model is not removed.
    again = ("models", "add", file, *SCALE, "--name")
    assert "2 featureid: there is a model 'mine' already; choose" in command.refuse(*again, "mine")
    assert command.succeed(*again, "mine", "--replace", "--size", SIDE)["digest"] == added["digest"]
    assert "'face' is a model of featureid" in command.refuse(*again, "face")
    assert "cannot be the name of a model" in command.refuse(*again, "../x")
    assert "'image' comes with featureid" in command.refuse("models", "remove", "image")
    refused = command.refuse("models", "remove", "mime")
    assert "no model 'mime' was added; did you mean 'mine'?" in refused
    assert command.refuse("models", "describe", "mime").endswith("; did you mean 'mine'?\n")
    command.succeed("models", "remove", "mine")
    assert not (models / "mine.fidmodel").exists()


def test_a_model_can_be_written_to_a_file(
    tmp_path: Path, models: Path, command: Command, photos: Path
) -> None:
    file, output = written(tmp_path, convolutional(16)), tmp_path / "mine.fidmodel"
    add = ("models", "add", file, "--name", "mine", *SCALE, "--output")
    added = command.succeed(*add, output)
    assert load_bundle(output).digest == added["digest"] and not models.exists()
    command.succeed("embed", photos / "small", "--output", tmp_path / "ids", "--model", output)
    assert "must end in .fidmodel" in command.refuse(*add, tmp_path / "mine.zip")
    refused = command.refuse(*add, tmp_path / "none" / "mine.fidmodel")
    assert "is in a folder that does not exist" in refused


def test_a_litert_network_becomes_a_model(tmp_path: Path, command: Command, photos: Path) -> None:
    file = written(tmp_path, TFLITE, "net.tflite")
    added = command.succeed("models", "add", file, "--name", "lite", *SCALE)
    assert (added["network"], added["dimension"]) == ("model.tflite", 4)
    embed = ("embed", photos / "small", "--output", tmp_path / "ids", "--model", "lite")
    found = command.succeed(*embed)
    assert found["rows"] > 0 and {*found["failures_by_reason"]} <= {"zero-vector"}
    damaged = written(tmp_path, TFLITE[:200], "bad.tflite")
    refused = command.refuse("models", "add", damaged, "--name", "bad", *SCALE)
    assert refused.startswith(f"1 featureid: {damaged}: ")


@pytest.mark.parametrize("how", ["pca", "project"])
def test_vectors_are_reduced(how: str, tmp_path: Path, command: Command, photos: Path) -> None:
    file = written(tmp_path, convolutional(16))
    reduced = ("--dimension", "4", "--reduce", how, "--samples", photos)
    added = command.succeed("models", "add", file, "--name", "mine", *SCALE, *reduced)
    assert (added["native_dimension"], added["dimension"]) == (16, 4)
    bundle = load_bundle(added["path"])
    assert bundle.reduction is not None
    matrix = bundle.reduction.matrix.astype(np.float64)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(4), atol=1e-4)


UNUSABLE = {
    "not ONNX": (b"not a network", "it is not an ONNX file"),
    "a name that is not UTF-8": (onnx_of([MEANS]).replace(b"ReduceMean", b"Reduce\xffean"),
                                 "an operator named b'Reduce\\xffean', which is not UTF-8"),
    "external data": (external(), "its weight 'w' is in another file"),
    "maps": (onnx_of([node("Identity", "x", "y")]),
             "has the shape (n, 3, 8, 8), which is neither a vector nor tokens"),
    "undefined numbers": (onnx_of([MEANS, node("Sub", "m", "m", "z"), node("Div", "z", "z", "y")]),
                          "infinite or undefined numbers"),
    "random": (onnx_of([node("RandomNormalLike", "x", "r"), node("Add", "r", "x", "s"),
                        node("ReduceMean", "s", "y", axes=[2, 3], keepdims=0)]),
               "its vectors change from run to run"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_network_that_cannot_be_used_gets_one_clear_line(
    kind: str, tmp_path: Path, models: Path, command: Command
) -> None:
    data, expected = UNUSABLE[kind]
    file = written(tmp_path, data)
    refused = command.refuse("models", "add", file, "--name", "mine", *SCALE)
    assert refused.startswith((f"1 featureid: {file}: ", f"2 featureid: {file}: "))
    assert expected in refused
    assert not models.exists()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this division ends x86 processes only")
def test_a_network_that_crashes_harms_no_other_process(tmp_path: Path, command: Command) -> None:
    file = written(tmp_path, crashing())
    refused = command.refuse("models", "add", file, "--name", "mine", *SCALE)
    assert "it crashed the process that tried it (signal SIGFPE" in refused


def test_a_network_that_takes_too_long_is_stopped(tmp_path: Path, command: Command) -> None:
    file = written(tmp_path, endless())
    options = ("--name", "mine", *SCALE, "--time-limit", "3")
    refused = command.refuse("models", "add", file, *options)
    assert "it did not finish within 3 s; give it longer with --time-limit" in refused


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_network_that_takes_too_much_memory_is_stopped(tmp_path: Path, command: Command) -> None:
    file = written(tmp_path, hungry())
    refused = command.refuse("models", "add", file, "--name", "mine", *SCALE)
    assert "it needs more than 2.1 GB of memory; allow more with --memory-limit" in refused


def test_an_image_never_changes_another_ones_vector(tmp_path: Path, command: Command) -> None:
    """A network in which it does is run with one image at a time, if it takes one."""
    together = [
        MEANS,
        node("ReduceMean", "m", "b", axes=[0], keepdims=1),
        node("Sub", "m", "b", "s"),
        node("Add", "s", "m", "y"),
    ]
    file = written(tmp_path, onnx_of(together))
    added = command.succeed("models", "add", file, "--name", "mine", *SCALE)
    assert added["input"]["batch"] == 1
    four = written(tmp_path, onnx_of(together, inputs={"x": [4, 3, 8, 8]}), "four.onnx")
    refused = command.refuse("models", "add", four, "--name", "four", *SCALE)
    assert "depends on the other images of its batch of 4; export the network for" in refused


def test_what_is_missing_is_asked_for(tmp_path: Path, command: Command) -> None:
    tokens = written(tmp_path, transformer(8))
    cls = (tokens, "--pool", "cls")
    cases: list[tuple[tuple[object, ...], str]] = [
        # Said at once.
        ((*cls, "--dimension", "4"), "--dimension and --reduce belong together"),
        ((*cls, "--dimension", "4", "--reduce", "pca"), "give some with --samples"),
        ((tmp_path / "net.h5",), "a model is added from one of .onnx, .tflite, .keras"),
        ((tmp_path / "none.onnx",), "cannot be read: No such file"),
        ((*cls, "--time-limit", "-1"), "--time-limit is -1; it must be positive"),
        ((*cls, "--mean", "1,2"), "invalid value '1,2'; expected three numbers"),
        # Said once the network has been looked at.
        ((tokens,), f"say how the {TOKENS} tokens of 8 numbers become one vector with --pool"),
        ((*cls, "--samples", tmp_path / "none"), "no such file or folder"),
        ((*cls, "--face", "arcface112"), "the network takes 32 x 32 pixels"),
    ]
    for arguments, expected in cases:
        refused = command.refuse("models", "add", *arguments, "--name", "mine", *SCALE)
        assert refused.startswith(("1 featureid: ", "2 featureid: ")) and expected in refused


def test_a_bundle_that_was_not_seen_before_is_tried_before_it_is_loaded(
    tmp_path: Path, command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path / "cache"))
    bad = onnx_bundle(reduction=None, dimension=4)
    nan = onnx_network(kernel=np.full((4, 3, 3, 3), np.nan, np.float32))
    file = tmp_path / "bad.fidmodel"
    nans = with_own_digest(replace(bad, network=replace(bad.network, data=nan)))
    file.write_bytes(write_bundle(nans))
    embed = ("embed", photos / "small", "--output", tmp_path / "ids", "--model")
    assert "model 'tiny': its vectors have infinite" in command.refuse(*embed, file)
    assert "model 'tiny': its vectors have infinite" in command.refuse("models", "check", file)
    good = tmp_path / "good.fidmodel"
    good.write_bytes(write_bundle(bad))
    command.succeed(*embed, good)
    # It is tried once: the child would fail now.
    monkeypatch.setattr("featureid.models.building.trial._CHILD", "featureid.none")
    command.succeed(*embed, good)
    assert "it crashed the process" in command.refuse("models", "check", good)


def test_pipes_are_not_waited_for(tmp_path: Path, command: Command) -> None:
    pipe, network = tmp_path / "pipe.onnx", written(tmp_path, transformer(8))
    os.mkfifo(pipe)
    for arguments in (
        (pipe, *SCALE),
        (network, "--pool", "cls", "--preprocess", pipe),
        (network, "--pool", "cls", "--face", pipe, *SCALE),
    ):
        refused = command.refuse("models", "add", *arguments, "--name", "mine")
        assert "it is a pipe, socket or device, not a file" in refused
