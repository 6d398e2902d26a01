"""Paths on the command line: what a shell does not expand, and what is no output folder."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from featureid.cli import console
from featureid.cli import main as cli
from featureid.jobs.beam_options import split_beam_options
from tests.commands import run_process
from tests.storage_samples import ID, write_snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with three vectors in it, in which no shell expands anything."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("FEATUREID_CACHE", os.environ.get("FEATUREID_CACHE", "~/.cache/featureid"))
    monkeypatch.setenv("HOME", str(folder))
    np.save(folder / "ids.npy", np.eye(3, 128, dtype=np.float32))
    return folder


def test_the_home_folder_is_expanded_wherever_a_shell_does_not(home: Path, tmp_path: Path) -> None:
    imported = ("import", "~/ids.npy", "--number-rows", "--model=theirs", "--output=~/q")
    run_process(*imported, folder=tmp_path)
    assert (home / "q" / "current").exists() and not (tmp_path / "~").exists()
    run_process("export", "~/q", "--to=npy", "~/out.npy", folder=tmp_path)
    assert (home / "out.npy").exists()
    run_process("verify", "~/q", folder=tmp_path)


def test_a_file_with_that_name_is_reached_with_a_dot(home: Path, tmp_path: Path) -> None:
    (tmp_path / "~").mkdir()
    shutil.copy(home / "ids.npy", tmp_path / "~")
    imported = ("import", "./~/ids.npy", "--number-rows", "--model=theirs", "--output=./~/q")
    run_process(*imported, folder=tmp_path)
    assert (tmp_path / "~" / "q" / "current").exists() and not (home / "q").exists()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_text_of_every_command_is_expanded(command: str, home: Path) -> None:
    parser = cli.load_command(command).make_parser(command)
    assert isinstance(parser, console.Parser)
    for action in parser._actions:
        if action.type is None and action.nargs != 0 and not action.choices:
            for text, expanded in {
                "~/q": f"{home}/q",
                "~": str(home),
                "~root/q": os.path.expanduser("~root/q"),
                "./~/q": "./~/q",
                "a~": "a~",
                "~no-such-user/q": "~no-such-user/q",
            }.items():
                assert parser._get_value(action, text) == expanded


def test_paths_among_beams_options_are_expanded(home: Path) -> None:
    options, rest = split_beam_options(["--temp_location=~/temp", "~/a", "--output=~/b"])
    assert options.get_all_options()["temp_location"] == f"{home}/temp"
    assert rest == ["~/a", "--output=~/b"]  # for featureid's own parser


COMMANDS = {
    "snapshots": ["snapshots", "DIR"],
    "prune": ["prune", "DIR", "--keep=1"],
    "prune --dry-run": ["prune", "DIR", "--keep=1", "--dry-run"],
    "verify": ["verify", "DIR"],
    "inspect": ["inspect", "DIR"],
    "diff": ["diff", "DIR", "DIR"],
    "export": ["export", "DIR", "--to=npy", "x.npy"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_folder_that_is_no_output_is_an_error(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    for place, said in {
        "photos": r"photos (is not an output folder|holds no complete snapshot): it has neither",
        "nowhere": "nowhere does not exist; check the spelling",
    }.items():
        argv = [place if word == "DIR" else word for word in command]
        assert re.search(said, run_process(*argv, folder=tmp_path, status=1))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jpg", "photos"]


def test_a_snapshots_own_folder_is_no_output(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a"])
    folder = f"snapshots/{ID}"
    for command in (["snapshots"], ["prune", "--keep=1"]):
        message = run_process(command[0], folder, *command[1:], folder=tmp_path, status=1)
        assert "is the folder of one snapshot; name its output folder" in message
    run_process("verify", folder, folder=tmp_path)


def test_an_output_of_unfinished_runs_is_one(tmp_path: Path) -> None:
    (tmp_path / "snapshots" / "20200101T000000Z-aaaaaa").mkdir(parents=True)
    assert "dead" in run_process("snapshots", ".", folder=tmp_path)
    assert "1 deleted" in run_process("prune", ".", "--keep=1", folder=tmp_path)
    assert "0 deleted" in run_process("prune", ".", "--keep=1", folder=tmp_path)


def test_a_prefix_that_no_image_has_is_a_warning(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed = ["embed", str(photos / "small"), "--output", str(tmp_path / "out")]
    assert cli.main([*embed, "--strip-prefix", str(tmp_path), "--log-level=warning"]) == 0
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1 and f"WARNING featureid.inputs: --strip-prefix is '{tmp_path}'" in err
    )
    assert f"keys stay whole, such as {photos}/small/astronaut.jpg\n" in err
    for prefix in (photos, photos / "small"):
        assert (
            cli.main([*embed, f"--strip-prefix={prefix}", "--max-deleted=6", "--no-previous"]) == 0
        )
        assert "strip-prefix" not in capsys.readouterr().err
