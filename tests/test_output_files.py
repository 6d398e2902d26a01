"""An output folder that is, or is inside of, an input: its own files are never embedded."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from featureid.errors import UsageError
from featureid.inputs import InputSource, check_sources, list_source
from featureid.output_files import OutputFiles, output_of
from tests.commands import run_here, run_process
from tests.storage_samples import ID, write_snapshot

OWN = (
    "current",
    "checked",
    f"snapshots/{ID}",
    f"snapshots/{ID}/run.json",
    f"snapshots/{ID}/embeddings-00000-of-00003.fid.gz",
    "models/image-2a2ee93c3abf.fidmodel",
    "ids.npy",
    "ids.npy.keys.jsonl",
    "ids.parquet",
    "ids.bin.gz",
    "embed.prom",
)
IMAGES = (
    "a.jpg",
    "sub/current",
    "snapshots/a.jpg",
    "snapshots",
    "models/a.jpg",
    "models",
    "x/a.npy",
)


def test_names_of_own_files() -> None:
    for folder in ("/p/out", "s3://bucket/out", "s3://bucket", ""):
        assert {output_of(f"{folder}/{name}") for name in OWN} == {folder}
        assert folder not in {output_of(f"{folder}/{name}") for name in IMAGES}
    assert output_of(f"/p/snapshots/{ID}/current") == f"/p/snapshots/{ID}"


def test_only_files_of_outputs_are_left_out() -> None:
    own = OutputFiles({"/p/out"}.__contains__)
    assert own.hide("/p/out/current") and not own.hide("/p/out/a.jpg")
    assert not any(map(own.hide, ("/p/out", "/p/output/current", "/p/current", "/p/out2")))
    whole = OutputFiles({"/p/out"}.__contains__, "/p/out")
    assert all(map(whole.hide, ("/p/out", "/p/out/a.jpg"))) and not whole.hide("/p/output/a.jpg")


def write_own_files(write: Callable[[str], object]) -> None:
    for name in (*OWN[:2], *OWN[3:], *(name for name in IMAGES if "." in name)):
        write(name)


def names(source: InputSource, folder: str) -> set[str]:
    return {item.key.removeprefix(f"{folder}/") for item in list_source(source)}


@pytest.mark.parametrize("where", ["local", "link", "memory"])
def test_every_kind_of_input_leaves_them_out(where: str, tmp_path: Path) -> None:
    images = {"a.jpg", "snapshots/a.jpg", "models/a.jpg", "x/a.npy"}
    if where == "memory":
        store, folder = fsspec.filesystem("memory"), f"memory://{tmp_path.name}"
        write_own_files(lambda name: store.pipe_file(f"/{tmp_path.name}/{name}", b"x"))
        output = folder
    else:
        folder = str(tmp_path / "real")

        def write(name: str) -> None:
            (tmp_path / "real" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "real" / name).write_bytes(b"x")

        write_own_files(write)
        output = str(tmp_path / "link") if where == "link" else folder
        (tmp_path / "link").symlink_to("real")
    manifest = tmp_path / "list.txt"
    manifest.write_text("".join(f"{folder}/{name}\n" for name in (*OWN, *images)))
    for path, output_there, found in [
        (folder, output, images),
        (f"{folder}/", f"{output}/", images),
        (f"{folder}/**", output, images),
        (str(manifest), output, images),
        # The output is below the input: all of it is left out.
        (folder, f"{output}/models", images - {"models/a.jpg"}),
        (f"{folder}/*/*.jpg", f"{output}/models", {"snapshots/a.jpg"}),
        # It is above: nothing in the input is its own.
        (f"{folder}/x", output, {"x/a.npy"}),
        # It is somewhere else, and this is another one.
        (folder, f"{output}2", images),
        (folder, "s3://bucket/out", images),
    ]:
        source = InputSource(path, manifest=path.endswith(".txt"), output=output_there)
        assert names(source, folder) == found, (path, output_there)
    single = InputSource(f"{folder}/current", output=output)
    assert names(single, folder) == set()
    assert check_sources([single, InputSource(folder, output=output)])[0].path == folder
    with pytest.raises(UsageError, match="hold only what featureid has written"):
        check_sources([single])
    if where == "memory":
        store.rm(f"/{tmp_path.name}", recursive=True)


def test_links_lead_to_the_output(tmp_path: Path) -> None:
    """A folder that is named by a link, and one whose output is named by a link in it."""
    write_snapshot(tmp_path / "photos" / "out", ["a"])
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "album").symlink_to("photos")
    (tmp_path / "photos" / "ids").symlink_to("out")
    for folder in ("photos", "album"):
        for output in ("photos/out", "album/out", "photos/ids", "album/ids"):
            for path in (folder, f"{folder}/**"):
                source = InputSource(f"{tmp_path}/{path}", output=f"{tmp_path}/{output}")
                assert names(source, str(tmp_path / folder)) == {"a.jpg"}, (path, output)


@pytest.fixture
def pictures(photos: Path, tmp_path: Path) -> Path:
    """A folder of three images, also in subfolders that an output has."""
    folder = tmp_path / "pictures"
    for name in ("rocket.jpg", "snapshots/coffee.jpg", "models/camera.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "small" / Path(name).name, folder / name)
    return folder


def night(
    folder: Path, inputs: str, output: str, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Embed with the shell's ``*`` expanded, as the folder is by then."""
    places = sorted(glob.glob("*", root_dir=folder)) if inputs == "*" else [inputs]
    embed = ("embed", *places, "--output", output, "--strip-prefix", ".", "--json")
    as_process = inputs == output
    printed = run_process(*embed, folder=folder) if as_process else run_here(capsys, *embed)
    summary: dict[str, Any] = json.loads(printed)
    return summary


@pytest.mark.parametrize(
    ("inputs", "output"), [(".", "."), (".", "ids"), ("*", "."), ("*", "ids"), ("**/*", "ids")]
)
def test_two_nights_have_the_same_images(
    inputs: str,
    output: str,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pictures)
    first = night(pictures, inputs, output, capsys)
    assert (first["images"], first["failed"], first["published"]) == (3, 0, True)
    for kind in ("npy", "parquet"):
        run_here(capsys, "export", output, "--to", kind, f"{output}/ids.{kind}")
    second = night(pictures, inputs, output, capsys)
    assert (second["images"], second["failed"], second["published"]) == (3, 0, False)
