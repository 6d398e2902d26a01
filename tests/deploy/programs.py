"""Run programs that check files and print nothing if a file is correct."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
LIMIT_S = 240


def complaints(*command: object, limit_s: float = LIMIT_S, **environment: str) -> list[str]:
    """Run a program; return the lines that it prints, and its exit status if that is not 0."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return [*lines, f"exit status {done.returncode}"] if done.returncode else lines
