"""The wheel works where it is installed, and the sdist is complete."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import zipfile
from importlib.metadata import distributions as find_distributions
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from featureid import __version__
from tests.package.conftest import ROOT, Distributions, environment

EXTRAS = {"all", "aws", "faces", "gcp", "heif", "litert", "search", "train"}
MADE_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """Somebody's folder: two photos, and modules named like ours that must not be imported."""
    for name in ("pipelines", "jobs", "cli"):
        (tmp_path / name).mkdir()
        for module in ("__init__", "embed", "cli"):
            (tmp_path / name / f"{module}.py").write_text(f"raise RuntimeError('{name}.{module}')")
    (tmp_path / "photos").mkdir()
    for photo in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(photos / "small" / photo, tmp_path / "photos")
    return tmp_path


def run(folder: Path, *command: object) -> str:
    """Run a command in a folder; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        # An empty cache: the model is built from what the wheel depends on.
        env=environment(FEATUREID_CACHE=str(folder / "cache")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sdist_holds_every_file_of_the_repository(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if name.count("/")}
        folders = {
            member.name.partition("/")[2] for member in archive.getmembers() if member.isdir()
        }
    added = {name for name in names if name.startswith("featureid.egg-info/")}
    assert names - folders - added - MADE_BY_SETUPTOOLS == distributions.repository_files


def test_the_wheel_installs_featureid_and_nothing_else(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        names = archive.namelist()
    expected = {name for name in distributions.repository_files if name.startswith("featureid/")}
    info = f"featureid-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == expected


def test_the_metadata_is_valid(distributions: Distributions) -> None:
    (distribution,) = find_distributions(path=[str(distributions.wheel)])
    text = distribution.read_text("METADATA")
    assert text is not None
    valid = Metadata.from_email(text)  # Raises an ExceptionGroup that names every invalid field.
    assert (valid.name, str(valid.version)) == ("featureid", __version__)
    assert valid.license_expression == "Apache-2.0" and valid.license_files == ["LICENSE"]
    assert valid.description_content_type == "text/markdown"
    assert valid.description and valid.description.startswith("# featureid\n")
    assert valid.provides_extra and set(valid.provides_extra) >= EXTRAS
    points = [(point.name, point.value) for point in distribution.entry_points]
    assert points == [("featureid", "featureid.cli.main:main")]


def test_the_core_is_light(installed: Path, folder: Path) -> None:
    code = (
        "from importlib.metadata import distributions as d; "
        "print(*{x.name.lower() for x in d()}, sum(f.size or 0 for x in d() for f in x.files))"
    )
    *names, size = run(folder, installed / "python", "-c", code).split()
    assert {"apache-beam", "featureid", "onnxruntime"} <= set(names)
    heavy = {"ai-edge-litert", "dlib-bin", "keras", "pandas", "scipy", "tensorflow", "torch"}
    assert not heavy & set(names)
    assert int(size) < 750e6  # docs/install.md: 691 MB, without pip and setuptools


def test_the_demo_needs_only_the_core(installed: Path, folder: Path) -> None:
    shown = run(folder, installed / "python", ROOT / "demo.py", "--images", folder / "photos")
    assert "Nearest neighbors" in shown and (folder / "demo" / "neighbors.png").exists()


def test_the_installed_command_embeds_beside_modules_of_the_same_names(
    installed: Path, folder: Path
) -> None:
    assert "usage: featureid" in run(folder, installed / "featureid", "--help")
    embed = [
        installed / "featureid",
        "embed",
        "photos",
        "--strip-prefix=.",
        "--output=out",
        "--json",
    ]
    summary = json.loads(run(folder, *embed))
    assert (summary["embedded"], summary["failed"]) == (2, 0)
    # `python -m` puts the current folder in front of everything that is installed.
    inspect = [installed / "python", "-m", "featureid", "inspect", "out", "--keys", "--json"]
    found = json.loads(run(folder, *inspect))
    assert found["image_keys"] == ["photos/chelsea.jpg", "photos/coffee.jpg"]
    run(folder, installed / "featureid", "report", "out", "--output=out.html")
    assert (folder / "out.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2
    code = "import featureid; print(featureid.generate_feature_id('photos/chelsea.jpg').shape)"
    assert run(folder, installed / "python", "-c", code) == "(128,)\n"
