"""An output folder protects its current snapshot: whatever would replace it is checked first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from featureid.cli import main as cli
from featureid.models import known_models
from featureid.storage.records import ModelInfo
from featureid.storage.verify import verify_snapshot
from featureid.transforms import WriteSnapshot
from tests.commands import PORTABLE, run_here, run_process
from tests.storage_samples import make_info, make_row, write_snapshot

SCRIPT = (sys.executable, "pipelines/embed.py")
(IMAGE,) = (model.digest for model in known_models() if model.name == "image")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output folder with a snapshot of 50 imported vectors of the model `theirs`."""
    assert cli.main([str(argument) for argument in importing(tmp_path, 50)]) == 0
    return tmp_path / "out"


def importing(folder: Path, rows: int, *options: str) -> list[object]:
    """A command line that imports so many vectors into ``folder``/out."""
    vectors = folder / "vectors.npy"
    np.save(vectors, np.eye(rows, 128, dtype=np.float32))
    names = () if any(option.startswith("--model") for option in options) else ("--model=theirs",)
    return ["import", vectors, "--number-rows", "--output", folder / "out", *names, *options]


def files_in(output: Path) -> dict[str, bytes]:
    """Every file of an output folder, and what it holds; folders hold nothing."""
    return {
        str(path.relative_to(output)): path.read_bytes() if path.is_file() else b""
        for path in output.rglob("*")
    }


def test_a_run_of_another_model_is_refused(
    output: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(output)
    inputs = (f"--input={photos / 'small'}", f"--output={output}")
    messages = [
        run_process("embed", *inputs, status=2),
        run_process(*inputs, *PORTABLE, status=2, program=SCRIPT),
        *(
            run_here(capsys, "embed", *inputs, option, status=2)
            for option in ("--re-embed", "--no-previous", "--check=content", "--max-deleted=100%")
        ),
    ]
    for message in messages:
        assert f"{output} holds vectors of the model 'theirs' (unverified:theirs)" in message
        assert f"of this run are of the model 'image' ({IMAGE}" in message
        assert "model digest differs" in message and "--new-model" in message
    assert files_in(output) == before


def test_other_faces_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ("embed", photos / "astronaut.png", "--output", tmp_path / "out", "--model=face")
    run_here(capsys, *inputs)
    before = files_in(tmp_path)
    message = run_here(capsys, *inputs, "--faces=all", status=2)
    assert "choice of faces differs" in message
    assert "'dlib largest min" in message and "'dlib all min" in message
    assert "--new-model" in run_here(capsys, *inputs, "--min-face=50", status=2)
    assert files_in(tmp_path) == before


def test_an_import_of_another_model_is_refused(output: Path) -> None:
    before = files_in(output)
    other = importing(output.parent, 50, "--model=other")
    message = run_process(*other, status=2)
    assert "'theirs' (unverified:theirs)" in message and "'other' (unverified:other)" in message
    assert files_in(output) == before
    run_process(*other, "--new-model")
    assert verify_snapshot(output).ok
    assert len(list((output / "snapshots").iterdir())) == 2


def test_a_new_model_replaces_the_old_one_if_asked_to(
    output: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed = ("embed", photos / "small", "--output", output, "--new-model")
    message = run_here(capsys, *embed, status=1)
    assert "50 of the 50 images of the previous snapshot are missing" in message
    found = json.loads(run_here(capsys, *embed, "--max-deleted=50", "--json"))
    assert found["changes"]["new"] == found["embedded"] == 6
    # Left in a schedule, the option neither embeds again nor protects from the next new model.
    again = json.loads(run_here(capsys, *embed, "--json"))
    assert not again["published"] and again["changes"]["unchanged"] == 6
    assert verify_snapshot(output).ok


def test_a_much_smaller_import_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_in(output)
    message = run_process(*importing(output.parent, 44), status=1)
    assert "has a snapshot of 50 images, and this one would have 44: 6 fewer" in message
    assert message.endswith("add --max-deleted=6; otherwise give another --output")
    assert files_in(output) == before
    run_here(capsys, *importing(output.parent, 45))
    run_here(capsys, *importing(output.parent, 23, "--max-deleted=50%"))
    wrong = importing(output.parent, 23, "--max-deleted=50 %")
    assert "--max-deleted is '50 %'" in run_here(capsys, *wrong, status=2)


def test_a_full_run_of_far_fewer_images_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    run_here(capsys, "embed", photos, "--output", output)
    before = files_in(output)
    embed = ("embed", photos / "small", "--output", output, "--no-previous")
    for runner in ((), PORTABLE):
        message = run_process(*embed, *runner, status=1)
        assert "has a snapshot of 13 images, and this one would have 6: 7 fewer" in message
    after = files_in(output)
    assert before.items() <= after.items()
    # A run elsewhere leaves its mark, since it might go on without the command; and the model.
    left = {Path(name).name for name in after.keys() - before.keys() if after[name]}
    assert {name for name in left if not name.endswith(".fidmodel")} <= {"run.json"}
    run_here(capsys, *embed, "--max-deleted=7")


def rows_of(keys: list[str], output: Path, **options: object) -> None:
    """Write rows with these keys through the transform."""
    engine = f"--update_compatibility_version={beam.__version__}"
    with beam.Pipeline(options=PipelineOptions([engine])) as pipeline:
        rows = pipeline | beam.Create([make_row(key) for key in keys])
        {"rows": rows} | WriteSnapshot(output, **options)  # type: ignore[arg-type]


def test_the_transform_protects_its_output_as_well(tmp_path: Path) -> None:
    keys, model = [f"{n}" for n in range(20)], make_info().model
    write_snapshot(tmp_path, keys, failures=())
    before = files_in(tmp_path)
    other = ModelInfo("other", "sha256:cc", "sha256:dd", 4)
    with pytest.raises(Exception, match=r"'image' \(abab.*'other' \(sha256:cc\).*`new_model`"):
        rows_of(keys, tmp_path, model=other)
    assert files_in(tmp_path) == before
    with pytest.raises(Exception, match=r"20 images, and this one would have 14.*`max_deleted=6`"):
        rows_of(keys[:14], tmp_path, model=model)
    assert (tmp_path / "current").read_bytes() == before["current"]
    rows_of(keys[:14], tmp_path, model=model, max_deleted="6")
    rows_of(keys, tmp_path, model=other, new_model=True)
    assert verify_snapshot(tmp_path).ok and files_in(tmp_path)["current"] != before["current"]
