"""Write ``docs/cli.md`` from the parsers of the commands: ``python docs/generate_cli.py``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from featureid.cli import console
from featureid.cli import main as cli

TARGET = Path(__file__).with_name("cli.md")
COLUMNS = 80
_INTRODUCTION = """# Command line

<!-- Written by docs/generate_cli.py; `make format` brings it up to date. -->

Every command exits with one of the statuses in [running.md](running.md#exit-status) and prints an
error as one line on standard error.
"""


def help_text(parser: argparse.ArgumentParser) -> str:
    """Return what ``--help`` prints on a terminal of ``COLUMNS`` columns."""
    parser.formatter_class = partial(argparse.HelpFormatter, width=COLUMNS - 2)
    return parser.format_help()


def render() -> str:
    """Return the Markdown document: the help texts of the program and of its commands."""
    parsers = {"featureid": cli.make_parser()}
    for name in cli.COMMANDS:
        prog = f"featureid {name}"
        parsers[prog] = cli.load_command(name).make_parser(prog)
    sections = (
        f"\n## {prog}\n\n```text\n{help_text(parser)}```\n" for prog, parser in parsers.items()
    )
    return _INTRODUCTION + "".join(sections)


if __name__ == "__main__":
    console.set_up_log("warning")  # before Beam is imported, which logs what is not installed
    TARGET.write_text(render(), encoding="utf-8")
