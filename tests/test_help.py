"""Help texts and docs/cli.md: what every command prints about itself, run as a process."""

import argparse
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featureid.cli import main as cli

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).parent / "featureid"
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))
DOCUMENT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Program or command -> its help text in docs/cli.md."""
    found = re.findall(r"^## ([^\n]+)\n\n```text\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return dict(found)


def words(help_text: str) -> list[str]:
    """The words of a help text: releases of Python wrap its first lines differently."""
    return help_text.split()


def print_help(prog: str) -> subprocess.CompletedProcess[str]:
    """Run ``featureid COMMAND --help`` as the installed program."""
    environment = {**os.environ, "COLUMNS": str(GENERATOR["COLUMNS"])}
    command = [str(PROGRAM), *prog.split()[1:], "--help"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_document_is_what_the_parsers_say() -> None:
    assert words(DOCUMENT) == words(GENERATOR["render"]()), "run `python docs/generate_cli.py`"


def test_every_program_prints_its_own_help() -> None:
    progs = ["featureid", *(f"featureid {command}" for command in cli.COMMANDS)]
    assert list(sections()) == progs
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for prog, done in zip(progs, pool.map(print_help, progs), strict=True):
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(f"usage: {prog} [-h]")
            assert words(done.stdout) == words(sections()[prog])


def valid_arguments(parser: argparse.ArgumentParser) -> list[str]:
    """The shortest command line that a parser accepts."""
    arguments = []
    for action in parser._actions:
        if action.option_strings and action.required:
            arguments += [action.option_strings[0], str(next(iter(action.choices or ["1"])))]
        elif not action.option_strings and action.nargs not in ("?", "*"):
            arguments += ["x"] * (action.nargs if isinstance(action.nargs, int) else 1)
    return arguments


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_refuses_an_unknown_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = valid_arguments(cli.load_command(command).make_parser(command))
    assert cli.main([*command.split(), *arguments, "--xyzzy"]) == 2
    printed = capsys.readouterr()
    help_command = f"featureid {command} --help"
    expected = f"featureid: unrecognized arguments: --xyzzy (see {help_command})\n"
    assert (printed.out, printed.err) == ("", expected)
