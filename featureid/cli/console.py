"""What every command shares: its parser, its log, its progress line, its exit status."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from featureid import errors
from featureid.durations import parse_duration
from featureid.jobs.beam_errors import as_known_error, is_interrupt
from featureid.keys import printable
from featureid.masking import masked, masked_log, masked_values
from featureid.progress import Progress
from featureid.storage.files import expand_home

DONE, FAILED, WRONG_USAGE, TOO_MANY_FAILURES, INTERRUPTED = 0, 1, 2, 3, 130
LOG_LEVELS = ("debug", "info", "warning", "error")
_PROGRESS_EVERY_S = 0.5
# Moves to the start of the line and erases it.
_CLEAR = "\r\x1b[K"
_COLUMNS = 80
#: A parameter in a message, with or without a value: ``max_bytes`` or ``check='content'``.
_PARAMETER = re.compile(r"`(?P<name>[a-z_]+)(=(?P<value>[^`]*))?`")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that accepts no abbreviations.

    In every text it expands ``~``, as a shell does in whole words.

    Args:
        elsewhere: options that this command does not have -> what to say to who gives one.
        options: those of ``argparse.ArgumentParser``.
    """

    def __init__(self, *, elsewhere: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._elsewhere = elsewhere or {}
        self.register("type", None, expand_home)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            UsageError: always.
        """
        raise errors.UsageError(f"{message} (see {self.prog} --help)")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line; for an unknown option, suggest one with a similar name."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split("=")[0]
            if name in self._elsewhere:
                self.error(f"{self.prog} has no {name}; {self._elsewhere[name]}")
            similar = errors.did_you_mean(name, self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(_without_options(unknown))}{similar}")
        for action in self._actions:
            value = None if action.option_strings else getattr(found, action.dest, None)
            if "" in (value if isinstance(value, list) else [value]):
                self.error(f"argument {action.metavar} is empty; is a variable not set?")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            hint = errors.did_you_mean(str(value), choices) or f"; choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{hint}")


class CommandParser(Parser):
    """The parser of a command that prints a result: it has ``--json`` and ``--log-level``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        common = self.add_argument_group("common options")
        common.add_argument("--json", action="store_true", help="print the result as JSON")
        common.add_argument(
            "--log-level",
            choices=LOG_LEVELS,
            default="info",
            help="debug also shows what libraries log and print; default: %(default)s",
        )


def _without_options(unknown: Sequence[str]) -> Iterator[str]:
    """Yield unknown arguments without the values of options, which may be secrets."""
    for before, word in zip(["", *unknown], unknown, strict=False):
        if word.startswith("-"):
            yield word.split("=")[0]
        elif not before.startswith("-"):
            yield word


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line and set up the log as it asks.

    Raises:
        UsageError: the command line is wrong.
    """
    arguments = parser.parse_args(argv)
    set_up_log(arguments.log_level)
    return arguments


def check_given(parser: argparse.ArgumentParser, required: Mapping[str, object]) -> None:
    """Refuse a command line that lacks arguments.

    Args:
        parser: the command's.
        required: their names and values, in the order of the help.

    Raises:
        UsageError: one has no value.
    """
    missing = [name for name, value in required.items() if not value]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")


def only_one(parser: argparse.ArgumentParser, name: str, places: Sequence[str]) -> str:
    """Return the place that was given as an argument or as an option, but not as both.

    Raises:
        UsageError: several are given.
    """
    if len(places) > 1:
        parser.error(f"give one {name}, not {', '.join(places)}")
    return places[0]


def duration(text: str) -> timedelta:
    """Return the duration of an option's value, for ``add_argument(type=…)``."""
    try:
        return parse_duration(text)
    except errors.UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        hide = masked if record.name.split(".")[0] == "featureid" else masked_log
        return hide(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(with_options(record.message))
        return super().formatMessage(record)


def set_up_log(level: str) -> None:
    """Log to standard error; at ``debug`` the logs and warnings of libraries come along."""
    handler = logging.StreamHandler()
    before = _CLEAR if _is_terminal() else ""  # It may show progress.
    handler.setFormatter(_OneLine(f"{before}%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Beam logs an error with its stack trace before it raises it; once is enough.
    root_level = logging.DEBUG if level == "debug" else logging.CRITICAL
    logging.basicConfig(handlers=[handler], level=root_level, force=True)
    logging.captureWarnings(True)
    logging.getLogger("featureid").setLevel(level.upper())


def print_result(result: dict[str, Any], as_json: bool, lines: Iterable[str]) -> None:
    """Print what a command found: one JSON object, or lines for people.

    Raises:
        BrokenPipeError: the reader of the output (``| head``) has gone.
        StorageError: it cannot be written.
    """
    if as_json:
        text = json.dumps(masked_values(result))
    else:
        text = "\n".join(masked(printable(line)) for line in lines)
    try:
        print(text, flush=True)
    except OSError as error:
        # Closed here, or Python would complain once more at exit.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        if isinstance(error, BrokenPipeError):
            raise
        raise errors.StorageError(f"Cannot write the result: {error.strerror}") from error


def complain(message: str) -> None:
    """Print an error as one line on standard error, with the options that it names."""
    print(f"featureid: {printable(with_options(message))}", file=sys.stderr, flush=True)


def with_options(message: str) -> str:
    """Turn the parameters that a message names in backquotes into options."""

    def option(found: re.Match[str]) -> str:
        value = found["value"]
        flag = "--" + found["name"].replace("_", "-")
        return flag if value in (None, "True") else f"{flag}={value.strip(chr(39))}"

    return _PARAMETER.sub(option, message)


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    A known error becomes one line on standard error, any other a stack trace.
    """
    if sys.stderr is None:  # The caller has closed it.
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name may have characters that the encoding of the terminal lacks.
            stream.reconfigure(errors="backslashreplace")
    try:
        with _interruptible():
            return command()
    except BrokenPipeError:
        return FAILED
    except (KeyboardInterrupt, Exception) as error:
        known = as_known_error(error)
        if is_interrupt(error):
            complain("interrupted")
        elif known is not None:
            complain(str(known))
        else:  # A bug. Its message may quote anything.
            print(masked_log(traceback.format_exc()), end="", file=sys.stderr, flush=True)
        return exit_status(error)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, unless the caller has them ignored."""
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGHUP) if in_main else ()
    own = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in own:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def exit_status(error: BaseException) -> int:
    """Return the exit status of a command that ends with an exception."""
    if is_interrupt(error):
        return INTERRUPTED
    known = as_known_error(error)
    if isinstance(known, errors.TooManyFailuresError):
        return TOO_MANY_FAILURES
    return WRONG_USAGE if isinstance(known, errors.UsageError) else FAILED


@contextlib.contextmanager
def show_progress(progress: Progress) -> Iterator[None]:
    """Show progress in one line of the terminal, if there is one, until the block ends."""
    if not _is_terminal():
        yield
        return
    done = threading.Event()

    def show() -> None:
        while not done.wait(_PROGRESS_EVERY_S):
            line = fit(progress.parts(), _columns() - 1)
            print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print(_CLEAR, end="", file=sys.stderr, flush=True)


def fit(parts: Sequence[str], columns: int) -> str:
    """Return as many of the parts, the first of them at least, as fit into a line."""
    line = parts[0][:columns]
    for part in parts[1:]:
        longer = f"{line}, {part}"
        if len(longer) > columns:
            break
        line = longer
    return line


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS


@contextlib.contextmanager
def counting(unit: str, total: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts work as it is done, on any thread, and show how far it is.

    Args:
        unit: what is counted, ``rows``.
        total: how much there is to do; 0 if that is not known.
    """
    progress = Progress(unit, total)
    with show_progress(progress):
        yield progress.add


def submission_lines(folder: str, job: str | None) -> list[str]:
    """Return what to say of a run that continues, and of the result that it will publish."""
    return ["submitted" + (f" as job {job}" if job else ""), f"result: {folder}"]


def bits_apart(distance: int | None) -> str:
    """Return in how many bits two perceptual hashes differ, for a table; "" if not known."""
    return "" if distance is None else f"{distance:3} bits"
