"""The sdist, the wheel built from it, and an environment that holds nothing but that wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import photos

__all__ = ["photos"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Distributions:
    """What `python -m build` makes of the repository."""

    repository_files: frozenset[str]  # all that git would commit
    sdist: Path
    wheel: Path


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would lead Python to the checkout."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    } | changes


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build from a copy of the checkout, which keeps its own build folders out of the result."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = frozenset(name for name in listed.split("\0") if name and (ROOT / name).exists())
    source = tmp_path_factory.mktemp("source")
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    folder = tmp_path_factory.mktemp("dist")
    # Without --sdist and --wheel, build makes the wheel from the sdist.
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(source)]
    done = subprocess.run(build, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Distributions(files, sdist, wheel)


@pytest.fixture(scope="session")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python, wheel = str(folder / "bin" / "python"), str(distributions.wheel)
    install = [python, "-m", "pip", "install", "--quiet", wheel]
    subprocess.run(install, env=environment(), check=True)
    return folder / "bin"
