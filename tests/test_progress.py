"""How far a run is: in one line of a terminal, however narrow, and once a minute in a log."""

import fcntl
import logging
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from featureid.cli.console import fit
from featureid.progress import Progress

PROGRAM = Path(sys.executable).parent / "featureid"


class Clock:
    """A clock that a test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_the_state_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    progress = Progress("images")
    assert progress.parts() == ["0 images"]
    progress.add(listed=1200)
    assert progress.parts() == ["1200 images listed"]
    progress.add(total=1000)
    assert progress.parts() == ["0 %", "0/1000 images"]
    clock.now += 30  # to load a model
    progress.add(1)
    clock.now += 10
    progress.add(250, failed=3)
    left = ["25 %", "30 s left"]
    assert progress.parts() == [*left, "251/1000 images", "3 failed", "25 images/s"]
    progress.add(749)
    assert progress.parts()[:2] == ["100 %", "1000/1000 images"]


def test_of_an_unknown_total_there_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    progress = Progress("rows")
    progress.add(1)
    clock.now += 1
    progress.add(20)
    assert progress.parts() == ["21 rows", "20 rows/s"]


def test_a_log_has_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "featureid")
    clock = Clock(monkeypatch)
    progress = Progress("images", total=600)
    for _ in range(150):
        clock.now += 1
        progress.add(2)
    assert caplog.messages == [
        "20 %, 3 min 58 s left, 120/600 images, 2 images/s",
        "40 %, 2 min 59 s left, 240/600 images, 2 images/s",
    ]


def test_what_does_not_fit_into_the_line_is_left_out() -> None:
    parts = ["45 %", "2 min 3 s left", "450/1000 images", "3 failed"]
    assert fit(parts, 80) == ", ".join(parts)
    assert fit(parts, 40) == "45 %, 2 min 3 s left, 450/1000 images"
    assert fit(parts, 20) == "45 %, 2 min 3 s left"
    assert (fit(parts, 19), fit(parts, 2)) == ("45 %", "45")


def terminal_output(command: list[str], columns: int) -> str:
    """What a program prints on a terminal of this width."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        chunks = []
        try:
            while chunk := os.read(ours, 1 << 16):
                chunks.append(chunk)
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return b"".join(chunks).decode()


def test_a_narrow_terminal_shows_share_and_time_left(photos: Path, tmp_path: Path) -> None:
    for number in range(25):
        shutil.copytree(photos / "small", tmp_path / "in" / str(number))
    command = [str(PROGRAM), "embed", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    *shown, summary = terminal_output([*command, "--threads=1"], 40).split("\r\x1b[K")
    assert all(len(line) < 40 for line in shown)
    assert re.search(r"^\d+ %, \d+ s left, \d+/150 images$", "\n".join(shown), re.MULTILINE)
    assert summary.startswith("150 images: 150 embedded")
