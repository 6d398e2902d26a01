"""Names in a terminal: what would control it is escaped, what it cannot show is no error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featureid.keys import printable

PROGRAM = Path(sys.executable).parent / "featureid"
NAMES = (
    "two\nlines.jpg",
    "\x1b[31mred.jpg",
    "é.jpg",
    "\u202egpj.exe.jpg",
    "caf\udce9.jpg",
    "no\n.txt",
)


def run(*argv: object, encoding: str = "utf-8", status: int = 0) -> str:
    """Run the program with standard streams of an encoding and return its output."""
    done = subprocess.run(
        [PROGRAM, *map(str, argv)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    text = (done.stderr if status else done.stdout).decode(encoding)
    assert printable(text.replace("\n", "")) == text.replace("\n", "")
    return text


@pytest.fixture(scope="module")
def output(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshot of images with odd names, made by a program in an ASCII terminal."""
    place = tmp_path_factory.mktemp("odd\x07")
    (place / "in").mkdir()
    for name in NAMES:
        shutil.copy(photos / "small" / "coffee.jpg", place / "in" / name)
    (place / "in" / NAMES[-1]).write_text("not an image")
    printed = run(
        "embed",
        place / "in",
        "--strip-prefix",
        place / "in",
        "--output",
        place / "out",
        encoding="ascii",
    )
    assert "5 embedded, 1 failed" in printed and "odd\\x07" in printed
    return place / "out"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_keys_and_failures_take_one_line_each(output: Path, encoding: str) -> None:
    lines = run("inspect", output, "--keys", "--failures", encoding=encoding).splitlines()
    e = "\\xe9" if encoding == "ascii" else "é"
    assert lines[-5:] == [
        "\\x1b[31mred.jpg",
        r"caf\xe9.jpg",
        "two\\nlines.jpg",
        f"{e}.jpg",
        "\\u202egpj.exe.jpg",
    ]
    assert lines[-6].startswith("failed: no\\n.txt: not-an-image")


def test_json_has_the_names_as_they_are(output: Path) -> None:
    found = json.loads(run("inspect", output, "--keys", "--failures", "--json", encoding="ascii"))
    assert set(found["image_keys"]) == {*NAMES[:4], r"caf\xe9.jpg"}
    assert found["failures"][0]["key"] == NAMES[-1]


def test_errors_escape_names(tmp_path: Path) -> None:
    place = tmp_path / "a\x1b[2Jb\nc"
    for argv in (["inspect", place], ["compare", place, place], ["export", place, "--to=npy", "x"]):
        error = run(*argv, status=1, encoding="ascii")
        assert "a\\x1b[2Jb\\nc" in error and error.count("\n") == 1
