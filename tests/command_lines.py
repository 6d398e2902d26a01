"""Find the command lines of featureid in documents and deploy files, and parse them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from featureid.cli import main as cli
from featureid.cli.embed_options import embed_options
from featureid.cli.group import group_options
from featureid.cli.match import match_options
from featureid.errors import UsageError
from featureid.jobs.beam_options import split_beam_options

# Variables of more options, which are empty unless a user sets them.
_OPTIONS = {"$options", "$FEATUREID_OPTIONS"}


def is_wrong(argv: Sequence[str]) -> str | None:
    """Return why ``featureid`` refuses a command line, or None if it does not."""
    argv = [word for word in argv if word not in _OPTIONS]
    try:
        command, rest = cli.find_command(argv)
        parser = cli.load_command(command).make_parser(f"featureid {command}")
        if command == "embed":
            _, own = split_beam_options(rest)
            embed_options(parser.parse_args(own))
        elif command == "match":
            _, own = split_beam_options(rest)
            match_options(parser.parse_args(own), parser)
        elif command == "group":
            _, own = split_beam_options(rest)
            group_options(parser.parse_args(own), parser)
        else:
            parser.parse_args(rest)
    except UsageError as error:
        return str(error)
    return None


def find(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every command line of featureid in shell code."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in _commands(line):
            for script in ("pipelines.embed", "pipelines/embed.py"):
                if script in words:
                    yield ["embed", *words[words.index(script) + 1 :]]
            places = [i for i, word in enumerate(words) if PurePath(word).name == "featureid"]
            if places and words[places[-1] + 1 :]:
                yield words[places[-1] + 1 :]


def _commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command in a line of shell code, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in lexer:
        if set(word) <= set(";&|()"):
            yield command
            command = []
        elif set(word) <= set("<>"):
            next(lexer)
        else:
            command.append(word)
    yield command


def shell_blocks(document: Path) -> str:
    """Return the lines of all ``sh`` blocks of a Markdown document."""
    text = document.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
