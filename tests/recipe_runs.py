"""Run the recipes of docs/recipes.md on a snapshot, word for word."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featureid.storage.reader import open_snapshot
from tests.storage_samples import make_info, make_row, write_rows

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
#: Recipes whose programs the tests need anyway; the others are for ``make recipes-test``.
LIGHT = ("NumPy", "DuckDB", "Polars", "pandas", "FAISS")
DATABASES = ("LanceDB", "Qdrant", "PostgreSQL with pgvector")
_PRINT = "\nimport json\nprint(json.dumps([(key, float(score)) for key, score in nearest]))\n"

Nearest = list[tuple[str, float]]


def recipes() -> dict[str, list[tuple[str, str]]]:
    """Heading -> language and text of each example below it; "" for those before the first one."""
    sections = ["", *re.split(r"^## (.+)\n", TEXT, flags=re.MULTILINE)]
    return {
        title: re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        for title, section in zip(sections[::2], sections[1::2], strict=True)
    }


def make_files(folder: Path) -> None:
    """Write a snapshot of 1,000 images, and the files that the recipes start from."""
    keys = ["a.jpg", 'it\'s "é",\n.jpg', *(f"{n:03}.jpg" for n in range(998))]
    write_rows(folder / "out", make_info(3, 128), [make_row(key, 128) for key in keys])
    ((_, code),) = recipes()[""]
    run(["bash", "-euc", code], folder)


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] = {}) -> str:
    """Run a command in a folder, with this featureid, and return its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(folder: Path) -> Nearest:
    """Return what every recipe must find."""
    snapshot = open_snapshot(folder / "out")
    scores = snapshot.vectors().astype(np.float64) @ snapshot["a.jpg"].astype(np.float64)
    order = np.argsort(-scores)[:10]
    keys = snapshot.row_keys()
    return [(keys[row], float(scores[row])) for row in order]


def run_python(
    code: str, folder: Path, python: str = sys.executable, environment: Mapping[str, str] = {}
) -> Nearest:
    """Run a recipe in Python as a process, and return what it finds."""
    found = json.loads(run([python, "-c", code + _PRINT], folder, environment))
    return [(key, score) for key, score in found]


def check(found: Nearest, folder: Path) -> None:
    """Check that a recipe has found what NumPy finds."""
    wanted = expected(folder)
    assert [key for key, _ in found] == [key for key, _ in wanted]
    assert np.allclose([score for _, score in found], [score for _, score in wanted], atol=1e-5)
