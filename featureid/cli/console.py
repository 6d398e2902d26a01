"""What every command shares: its parser, its log, its progress line, its exit status."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from featureid import errors
from featureid.durations import parse_duration
from featureid.jobs.beam_errors import as_known_error, is_interrupt

DONE, FAILED, WRONG_USAGE, TOO_MANY_FAILURES, INTERRUPTED = 0, 1, 2, 3, 130
LOG_LEVELS = ("debug", "info", "warning", "error")
_PROGRESS_EVERY_S = 0.5
_LOG_EVERY_S = 60.0
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: A parameter in a message, with or without a value: ``max_bytes`` or ``check='content'``.
_PARAMETER = re.compile(r"`(?P<name>[a-z_]+)(=(?P<value>[^`]*))?`")
_LOG = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that accepts no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise errors.UsageError(f"{message} (see {self.prog} --help)")


class CommandParser(Parser):
    """The parser of a command that prints a result: it has ``--json`` and ``--log-level``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        common = self.add_argument_group("common options")
        common.add_argument("--json", action="store_true", help="print the result as JSON")
        common.add_argument(
            "--log-level", choices=LOG_LEVELS, default="info", help="default: %(default)s"
        )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line and set up the log as it asks.

    Raises:
        UsageError: the command line is wrong.
    """
    arguments = parser.parse_args(argv)
    set_up_log(arguments.log_level)
    return arguments


def duration(text: str) -> timedelta:
    """Return the duration of an option's value, for ``add_argument(type=…)``."""
    try:
        return parse_duration(text)
    except errors.UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def set_up_log(level: str) -> None:
    """Log to standard error; at ``debug`` the logs and warnings of libraries come along."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Beam logs an error with its stack trace before it raises it; once is enough.
    root_level = logging.DEBUG if level == "debug" else logging.CRITICAL
    logging.basicConfig(handlers=[handler], level=root_level, force=True)
    logging.captureWarnings(True)
    logging.getLogger("featureid").setLevel(level.upper())


def printable(text: str) -> str:
    r"""Return a line without characters that control a terminal, as names may have them.

    Control characters, line breaks, changes of the writing direction and bytes that are not
    Unicode become escapes such as ``\n``, ``\x1b`` or ``\udce9``.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_result(result: dict[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print what a command found: one JSON object, or lines for people."""
    text = json.dumps(result) if as_json else "\n".join(map(printable, lines))
    print(text, flush=True)


def complain(message: str) -> None:
    """Print an error as one line on standard error.

    The parameters that it names in backquotes become the options of the command line.
    """

    def option(found: re.Match[str]) -> str:
        value = found["value"]
        flag = "--" + found["name"].replace("_", "-")
        return flag if value in (None, "True") else f"{flag}={value.strip(chr(39))}"

    print("featureid: " + printable(_PARAMETER.sub(option, message)), file=sys.stderr, flush=True)


def run_command(command: Callable[[], int]) -> int:
    """Run a command; a known error becomes one line on standard error and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may have characters that the encoding of the terminal lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        return command()
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough. Closed here, or Python would
        # complain once more at exit.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return FAILED
    except (KeyboardInterrupt, Exception) as error:
        if is_interrupt(error):
            complain("interrupted")
            return INTERRUPTED
        known = as_known_error(error)
        if known is None:
            raise
        complain(str(known))
        return WRONG_USAGE if isinstance(known, errors.UsageError) else FAILED


@contextlib.contextmanager
def progress_line(line: Callable[[], str]) -> Iterator[None]:
    """Show ``line()`` on the terminal, renewed until the block ends."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def show() -> None:
        while not done.wait(_PROGRESS_EVERY_S):
            print(f"\r\x1b[K{line()}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function that counts work as it is done, by any thread, and show how far it is.

    On a terminal as a progress line, in a log as one line a minute.

    Args:
        what: the unit and what is done, ``rows exported``.
        total: how much there is to do, if that is known.
    """
    lock = threading.Lock()
    done, logged = 0, time.monotonic()

    def line() -> str:
        return f"{done} {what}" if total is None else f"{done}/{total} {what}"

    def count(number: int) -> None:
        nonlocal done, logged
        with lock:
            done += number
            if time.monotonic() - logged >= _LOG_EVERY_S:
                logged = time.monotonic()
                _LOG.info(line())

    with progress_line(line):
        yield count
