"""``make audit``, without the network; and that no vulnerable release may be installed at all."""

from __future__ import annotations

import itertools
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.audit import ask_pip_audit, main, unaccepted, vulnerable

ROOT = Path(__file__).parents[1]
BAD = ("CVE-2099-1", ["PYSEC-2099-1"], ["2.0"])


def floors() -> dict[str, str]:
    """Return the lowest release of each dependency that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    listed = [*project["dependencies"], *itertools.chain(*extras)]
    found: dict[str, str] = {}
    for requirement in map(Requirement, listed):
        lowest = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
        if lowest:
            found[canonicalize_name(requirement.name)] = lowest[0]
    return found


def test_no_release_with_a_known_vulnerability_may_be_installed() -> None:
    assert {"pillow", "pillow-heif", "onnx", "opencv-python-headless"} <= floors().keys()
    assert [one for one in vulnerable(floors()) if not one.accepted] == []


def test_this_environment_has_no_known_vulnerability(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "pip-audit was NOT run" in printed and "no vulnerability to mend" in printed


def test_vulnerable_releases_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"pillow": "12.2.0", "pillow-heif": "1.8.0", "onnx": "1.22.0", "numpy": "2.0"}
    assert [one.package for one in vulnerable(old)] == ["pillow", "pillow", "pillow-heif"]
    assert not vulnerable({"pillow": "13.0.0", "pillow-heif": "1.8.1"})
    monkeypatch.setattr("tests.audit.installed_packages", lambda: old)
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"pillow 12\.2\.0: .*CVE-2026-59199.*: upgrade it\n", printed)
    assert "CVE-2026-112403" in printed and "accepted, since Beam" in printed
    assert printed.endswith("2 vulnerabilities to mend\n")


def pip_audit(folder: Path, report: str) -> str:
    """Return the path of a program that prints ``report`` and fails, as pip-audit does."""
    program = folder / "pip-audit"
    program.write_text(f"#!{sys.executable}\nprint({report!r})\nraise SystemExit(1)\n")
    program.chmod(0o755)
    return str(program)


def found(name: str, version: str, *ids: tuple[str, list[str], list[str]]) -> dict[str, Any]:
    """Return what pip-audit says of a package."""
    vulns = [{"id": one, "aliases": also, "fix_versions": by} for one, also, by in ids]
    return {"name": name, "version": version, "vulns": vulns}


@pytest.fixture
def two_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that is quickly listed."""
    monkeypatch.setattr("tests.audit.installed_packages", lambda: {"numpy": "2", "pillow": "13"})


def test_what_pip_audit_finds_is_an_error_unless_it_is_accepted(
    two_packages: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ("PYSEC-2026-9", ["CVE-2026-96639"], ["13.0.0"])
    private = {"name": "featureid", "skip_reason": "not on PyPI"}
    report = {"dependencies": [found("pillow", "12.3.0", known), private]}
    assert unaccepted(report) == (1, [])
    assert main([pip_audit(tmp_path, json.dumps(report))]) == 0
    assert "pip-audit knew 1 of 2 packages" in capsys.readouterr().out
    mended = [found("pillow", "12.3.0", ("PYSEC-2026-10", [], ["12.3.1", "13.0.1"]))]
    assert unaccepted({"dependencies": mended})[1][0].endswith("fixed by 12.3.1, 13.0.1")
    report["dependencies"].append(found("other", "1.0", BAD))
    line = "other 1.0: CVE-2099-1, PYSEC-2099-1, fixed by 2.0"
    assert unaccepted(report) == (2, [line])
    assert main([pip_audit(tmp_path, json.dumps(report))]) == 1
    assert f"{line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("report", ["", "no network", '{"dependencies": 1', "{}"])
def test_without_a_network_the_list_is_checked(
    report: str, two_packages: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = pip_audit(tmp_path, report)
    assert ask_pip_audit(program) == ask_pip_audit(str(tmp_path / "missing")) == (0, [])
    assert main([program]) == 0
    assert "pip-audit was NOT run, or could not reach PyPI" in capsys.readouterr().out
