"""The examples of the documents run, word for word but for the paths in PATHS.

Every ``sh`` and ``python`` block of a document runs, in order and in one folder. Blocks that start
with a word of SETUP install something; those with a word of ELSEWHERE need a cluster
(`tests/test_command_lines.py` parses their command lines). Areas under curves are those that the
document shows. HOME is a temporary folder with a few
photos in Pictures/, and the current folder holds the same photos.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import skimage
from PIL import Image

from featureid.models.cache import cache_folder

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "docs/evaluation.md",
    "docs/faces.md",
    "docs/matching.md",
    "docs/nightly.md",
    "docs/operations.md",
    "docs/report.md",
)
SETUP = ("make ", "pip ", "sudo ", "docker ", "cp deploy/")
ELSEWHERE = ("gs://", "FlinkRunner")
PATHS = {
    "~/known": "~/Pictures",
    "~/people": "~/Pictures",
    "/mnt/photos": "Pictures",
    "/srv/photos": "Pictures",
    "/data/ids": "ids",
    "/srv/ids": "ids",
}
SNAPSHOT_ID = r"\b\d{8}T\d{6}Z-[0-9a-f]{6}\b"  # stands for the oldest snapshot in ids/
PHOTOS = {"a.jpg": "astronaut.png", "b.jpg": "astronaut.png", "c.jpg": "chelsea.png"}
COMMANDS = {"sh": ["bash", "-euxo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def examples(document: str) -> list[tuple[str, str]]:
    """The language and text of each example of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        (language, code)
        for language, code in blocks
        if not code.startswith(SETUP) and not any(word in code for word in ELSEWHERE)
    ]


def placed(code: str, folder: Path) -> str:
    """An example with paths and snapshot ids that exist in ``folder``."""
    for path, name in PATHS.items():
        code = code.replace(path, name)
    oldest = min((path.name for path in folder.glob("ids/snapshots/*")), default="")
    return re.sub(SNAPSHOT_ID, oldest, code)


def areas_in(text: str) -> list[float]:
    """The areas under curves that a command prints."""
    return [float(area) for area in re.findall(r"\bAUC (0\.\d+)", text)]


def documented_areas(document: str) -> list[float]:
    """Those that the examples of a document print, as it says."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [area for block in blocks for area in areas_in(block)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with Pictures/: two photos of one person, one of a cat."""
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    for name, photo in PHOTOS.items():
        with Image.open(Path(skimage.__file__).parent / "data" / photo) as image:
            image.convert("RGB").save(pictures / name, quality=90 if name == "a.jpg" else 50)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_examples_of_a_document_run(document: str, home: Path) -> None:
    folder = home / "folder"
    shutil.copytree(home / "Pictures", folder)
    shutil.copytree(home / "Pictures", folder / "Pictures")
    environment = {
        **os.environ,
        "HOME": str(home),
        "FEATUREID_CACHE": str(cache_folder()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    areas = []
    for language, code in examples(document):
        done = subprocess.run(
            [*COMMANDS[language], placed(code, folder)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        areas += areas_in(done.stdout)
    # Another processor may round features in another way.
    assert areas == pytest.approx(documented_areas(document), abs=0.005)


def test_examples_are_found() -> None:
    found = {document: len(examples(document)) for document in DOCUMENTS}
    assert found == {
        "README.md": 3, "docs/evaluation.md": 3, "docs/faces.md": 2, "docs/matching.md": 12,
        "docs/nightly.md": 4, "docs/operations.md": 2, "docs/report.md": 2,
    }  # fmt: skip
