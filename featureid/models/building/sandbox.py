"""Run a module in a child process, with limits on its time and memory.

What a child does with data that others made cannot harm the process that starts it: a crash, an
endless loop or a lack of memory becomes one error.  Environment variables that are named like
secrets are not passed on.  It is no protection against code that is meant to do harm: the child has
the rights of the user.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from featureid.errors import FeatureIdError, ModelError
from featureid.masking import is_secret_name
from featureid.stored_json import decode_json, encode_json

_TASK, _ANSWER, _LOG = "task.json", "answer.json", "log.txt"
_MAX_ANSWER = 1 << 20
_MAX_FILE = 4 << 30
# What runtimes say when they get no more memory.
_MEMORY_WAS_SHORT = re.compile("(?i)bad_?alloc|allocate memory|memoryerror|out of memory")
_SOURCES = Path(__file__).parents[3]
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Limits:
    """What a child process may use.

    Attributes:
        seconds: of wall time.
        memory_bytes: of memory that it writes to; enforced on Linux only.
    """

    seconds: float
    memory_bytes: int


class _Task(msgspec.Struct, frozen=True):
    """What a child is asked for."""

    memory_bytes: int
    work: Any


class _Answer(msgspec.Struct, frozen=True):
    """What a child answers: a result, or an error that it expects."""

    result: Any = None
    error: str = ""


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a temporary folder for the files that a child reads and writes."""
    with tempfile.TemporaryDirectory(prefix="featureid-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def run_child(
    module: str, folder: Path, work: Any, result: type[_Record], limits: Limits
) -> _Record:
    """Run ``module`` in a child process and return what it answers.

    Args:
        module: full name of a module that calls :func:`answer` when it is run.
        folder: a folder for files; the child works in it.
        work: a record that the child is given, as JSON.
        result: the type of what it answers.
        limits: what it may use.

    Raises:
        ModelError: the child reports an error, or crashes, or exceeds a limit; the message says
            what happened and does not name the model.
    """
    (folder / _TASK).write_bytes(encode_json(_Task(limits.memory_bytes, work)))
    (folder / _ANSWER).unlink(missing_ok=True)
    status = _run([sys.executable, "-m", module, str(folder)], folder, limits)
    answer = _read_answer(folder)
    if answer is None:
        raise ModelError(_why(status, folder, limits))
    if answer.error:
        raise ModelError(answer.error)
    try:
        return msgspec.convert(answer.result, result)
    except (msgspec.ValidationError, FeatureIdError) as error:
        raise ModelError(f"its child process gave a wrong answer: {error}") from error


def answer(work: type[_Record], do: Any) -> None:
    """In the child: do the work that it was started for, and leave the answer in its folder.

    Args:
        work: type of the record that :func:`run_child` was given.
        do: takes the folder and that record; returns the result.
    """
    folder = Path(sys.argv[1])
    task = decode_json((folder / _TASK).read_bytes(), _Task)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE)
    # The data segment, not the address space: runtimes reserve far more than they use.
    _limit(resource.RLIMIT_DATA, task.memory_bytes)
    try:
        found = _Answer(result=do(folder, msgspec.convert(task.work, work)))
    except MemoryError:
        found = _Answer(error=_too_much_memory(task.memory_bytes))
    except FeatureIdError as error:
        found = _Answer(error=str(error))
        if _MEMORY_WAS_SHORT.search(found.error):
            found = _Answer(error=_too_much_memory(task.memory_bytes))
    (folder / _ANSWER).write_bytes(encode_json(found))


def _run(command: list[str], folder: Path, limits: Limits) -> int | None:
    """Return the status of a command, or None if its time was up."""
    environ = {name: value for name, value in os.environ.items() if not is_secret_name(name)}
    paths = [str(_SOURCES), *filter(None, [environ.get("PYTHONPATH")])]
    with (folder / _LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            return process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_answer(folder: Path) -> _Answer | None:
    """Return the answer of a child, or None if it left no complete one."""
    with contextlib.suppress(OSError, ValueError), (folder / _ANSWER).open("rb") as file:
        return decode_json(file.read(_MAX_ANSWER), _Answer)
    return None


def _why(status: int | None, folder: Path, limits: Limits) -> str:
    """Return what is known of a child that left no answer."""
    if status is None:
        return (
            f"it did not finish within {limits.seconds:g} s; give it longer with `time_limit` of "
            "models add or models check, or use a faster model"
        )
    words = (folder / _LOG).read_bytes()[-_MAX_ANSWER:].decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(words) if line.strip()), "")
    if _MEMORY_WAS_SHORT.search(last):
        return _too_much_memory(limits.memory_bytes)
    ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"it crashed the process that tried it ({ended}{f': {last[:300]}' if last else ''})"


def _too_much_memory(limit: int) -> str:
    return (
        f"it needs more than {limit / 1e9:.1f} GB of memory; allow more with `memory_limit` of "
        "models add or models check, or use a smaller model"
    )


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    with contextlib.suppress(ValueError, OSError):  # above what the system allows: its limit stays
        resource.setrlimit(kind, (most, hard if hard != resource.RLIM_INFINITY else most))
