"""Processes that a test starts: ready when they are used, and stopped when the test ends."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
READY_LIMIT_S = 120
STOP_LIMIT_S = 30


@contextlib.contextmanager
def running(
    command: Sequence[str], ready: str, log: Path, environment: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a command and wait for a line of its output that contains ``ready``.

    Args:
        command: the program and its arguments, run in the project's folder.
        ready: part of the line to wait for.
        log: file for its standard output and error.
        environment: variables in addition to those of this process.

    Yields:
        The process and that line. At the end, it and all processes that it started are stopped.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    found = threading.Event()
    lines: list[str] = []

    def copy() -> None:
        assert process.stdout is not None
        with log.open("w", encoding="utf-8") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                if ready in line and not found.is_set():
                    lines.append(line.strip())
                    found.set()
        found.set()

    reader = threading.Thread(target=copy)
    reader.start()
    try:
        found.wait(READY_LIMIT_S)
        if not lines:
            raise AssertionError(f"{command} is not ready: {log.read_text()[-2000:]}")
        yield process, lines[0]
    finally:
        stop(process)
        reader.join(STOP_LIMIT_S)
        assert process.stdout is not None
        process.stdout.close()


@dataclass(frozen=True)
class Pool:
    """A worker pool of featureid: its process, its address, and its log file."""

    process: subprocess.Popen[str]
    address: str
    log: Path


@contextlib.contextmanager
def running_pool(log: Path, environment: dict[str, str] | None = None) -> Iterator[Pool]:
    """Start a worker pool on a free port; tests may run as root."""
    command = [sys.executable, "-m", "featureid", "worker-pool", "--port=0", "--allow-root"]
    with running(command, "workers are started", log, environment) as (process, line):
        yield Pool(process, line.rsplit(" ", 1)[1], log)


def wait_until(condition: Callable[[], bool], limit_s: float = READY_LIMIT_S) -> None:
    """Wait until a condition is true, for example because of another process."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)


def stop(process: subprocess.Popen[str]) -> None:
    """Terminate a process, then kill it and all other processes of its session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_LIMIT_S)


def children(pid: int, command: str) -> list[int]:
    """Return the children of ``pid`` whose command line contains ``command``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process may end at any time
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and command.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def with_model(processes: Sequence[int]) -> set[int]:
    """Return those of the processes that have loaded ONNX Runtime, which a model is run with."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):  # it may end at any time
            if "onnxruntime_pybind" in Path(f"/proc/{process}/maps").read_text():
                found.add(process)
    return found


@contextlib.contextmanager
def waiting_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that does nothing; give the process and its identity."""
    code = (
        "import sys; from featureid.storage.process import this_process; "
        "print(this_process(), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            stop(process)


def ended_process() -> str:
    """Return the identity of a process of this machine that has ended."""
    with waiting_process() as (_, identity):
        return identity
