"""Commands that a test runs to their end: in a process of their own, or in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from featureid.cli import main as cli

ROOT = Path(__file__).parents[1]
FEATUREID = (sys.executable, "-m", "featureid")
#: Beam's portable engine behind a job server: for featureid, a runner on another machine.
PORTABLE = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d .* (DEBUG|INFO|WARNING) ")


def run_process(
    *argv: object, folder: Path = ROOT, status: int = 0, program: Sequence[str] = FEATUREID
) -> str:
    """Run a command in a process of its own and check its status.

    Args:
        argv: the arguments.
        folder: where to run it.
        status: the exit status that it must have.
        program: the program and its first arguments.

    Returns:
        Its standard output; of one that fails, the one line on standard error, less the log, to
        which Beam's portable runner adds stack traces.
    """
    command = [*program, *map(str, argv)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    return _printed(done.stdout, lines[-1:] if PORTABLE[0] in command else lines, status)


def run_here(capsys: pytest.CaptureFixture[str], *argv: object, status: int = 0) -> str:
    """Run a command in this process, which saves its start; the rest is as above."""
    capsys.readouterr()
    assert cli.main([str(argument) for argument in argv]) == status
    captured = capsys.readouterr()
    return _printed(captured.out, captured.err.splitlines(), status)


def _printed(out: str, err: Sequence[str], status: int) -> str:
    if status == 0:
        return out
    lines = [line for line in err if not _LOGGED.match(line)]
    assert len(lines) == 1 and lines[0].startswith("featureid: "), "\n".join(err)
    return lines[0]
