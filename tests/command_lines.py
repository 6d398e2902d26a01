"""Command lines of featureid as documents and deploy files show them, parsed for real."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import pytest

from featureid.cli import console, embed_options
from featureid.cli import main as cli
from featureid.errors import UsageError


class Parsed(Exception):
    """A command has parsed its command line and would now run."""


def parse(argv: Sequence[str]) -> None:
    """Let ``featureid`` parse a command line, without running it.

    Raises:
        UsageError: the command line is wrong.
    """
    parse_args = console.Parser.parse_args

    def parse_and_stop(parser: console.Parser, *arguments: object) -> object:
        parsed = parse_args(parser, *arguments)  # type: ignore[arg-type]
        if parser.prog == "featureid":
            return parsed
        if getattr(parsed, "command", argv[0]) == "embed":
            embed_options.embed_options(parsed)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console.Parser, "parse_args", parse_and_stop)
        patch.setattr(console, "set_up_log", lambda _level: None)
        with pytest.raises(Parsed):
            cli._dispatch(list(argv))


def is_wrong(argv: Sequence[str]) -> str | None:
    """Why a command line is refused; None if it is not."""
    try:
        parse(argv)
    except UsageError as error:
        return str(error)
    return None


def find(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every command line of featureid in lines of a shell."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in _commands(line):
            for script in ("pipelines.embed", "pipelines/embed.py"):
                if script in words:
                    yield ["embed", *words[words.index(script) + 1 :]]
            names = [
                place for place, word in enumerate(words) if PurePath(word).name == "featureid"
            ]
            if names and words[names[-1] + 1 :]:
                yield words[names[-1] + 1 :]


def _commands(line: str) -> Iterator[list[str]]:
    """The words of each command in a line of a shell, without what follows a redirection."""
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
    """The lines of all ``sh`` blocks of a Markdown document."""
    text = document.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
