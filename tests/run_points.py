"""Points in a run at which tests stop it, kill it, or let its disk fail."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
SHARD = "embeddings-0000{}-of-00002.fid.gz"


class Point(NamedTuple):
    """Just before a system call of a run that writes two shards.

    Attributes:
        event: Python's audit event.
        pattern: part of the path.
        number: which of those it is.
        leaves: what the run has written by then: nothing, a folder, its mark, a complete snapshot,
            or the current one.
    """

    event: str
    pattern: str
    number: int
    leaves: Literal["nothing", "folder", "mark", "complete", "current"]


#: In the order in which every run comes to them.
WRITING = {
    "making the folder": Point("os.mkdir", "/snapshots/", 1, "nothing"),
    "marking the run": Point("open", ".run.json.", 1, "folder"),
    "renaming the mark": Point("os.rename", "run.json", 1, "folder"),
    "writing the first shard": Point("open", f".{SHARD.format(0)}.", 1, "mark"),
    "renaming the first shard": Point("os.rename", SHARD.format(0), 1, "mark"),
    "writing the second shard": Point("open", f".{SHARD.format(1)}.", 1, "mark"),
    "renaming the second shard": Point("os.rename", SHARD.format(1), 1, "mark"),
    "writing the failures": Point("open", ".failures-", 1, "mark"),
    "writing the outcome": Point("open", ".run.json.", 2, "mark"),
    "writing the manifest": Point("open", ".manifest.json.", 1, "mark"),
    "renaming the manifest": Point("os.rename", "manifest.json", 1, "mark"),
    "between manifest and current": Point("open", ".current.", 1, "complete"),
    "renaming current": Point("os.rename", "/current", 1, "complete"),
    "writing the end": Point("open", ".run.json.", 3, "current"),
    "renaming the end": Point("os.rename", "run.json", 3, "current"),
}


def command_until(fate: str, point: Point, arguments: Sequence[str]) -> list[str]:
    """Return the command line of ``featureid arguments`` that meets its fate at a point."""
    script = str(ROOT / "tests" / "fail_at.py")
    return [sys.executable, script, fate, *map(str, point[:3]), *arguments]


def run_until(
    fate: str, point: Point, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run a command that meets its fate at a point."""
    return subprocess.run(
        command_until(fate, point, arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


class Process:
    """A command of ours in a process of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        self.popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._printed: tuple[str, str] | None = None

    def finish(self, status: int = 0) -> str:
        """Let the process run to its end, check its status and return what it printed."""
        if self._printed is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.popen.pid, signal.SIGCONT)
            self._printed = self.popen.communicate(timeout=120)
        out, err = self._printed
        assert self.popen.returncode == status, err
        return err if status else out


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[Process]:
    process = Process(command)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.popen.kill()
        with contextlib.suppress(ValueError):  # It has finished.
            process.popen.communicate()


@contextlib.contextmanager
def featureid(arguments: Sequence[str]) -> Iterator[Process]:
    """Start a ``featureid`` command; it is killed at the end unless it has finished."""
    with _running([sys.executable, "-m", "featureid", *arguments]) as process:
        yield process


@contextlib.contextmanager
def stopped(point: Point, arguments: Sequence[str]) -> Iterator[Process]:
    """Start a ``featureid`` command and wait until it has stopped at a point."""
    with _running(command_until("stop", point, arguments)) as process:
        _, status = os.waitpid(process.popen.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it ended before {point}"
        yield process


@contextlib.contextmanager
def actors(output: str, *acts: str) -> Iterator[None]:
    """Let processes of :mod:`tests.actors` act while the context lasts, and check that they did."""
    with contextlib.ExitStack() as stack:
        running = []
        for act in acts:
            name, *rest = act.split()
            command = [sys.executable, "-m", "tests.actors", name, output, *rest]
            running.append(stack.enter_context(_running(command)))
        for process in running:
            assert process.popen.stdout is not None
            assert process.popen.stdout.readline() == "started\n"
        yield
        for process in running:
            assert int(process.finish()) > 0
