"""Known vulnerabilities of what is installed: ``make audit``.

pip-audit asks PyPI about every package.  Where it cannot be asked, the list below is all that is
checked: the libraries that decode images and models of others, as far as featureid could be made to
call what is vulnerable, in November 2026.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

_SECONDS = 120


@dataclass(frozen=True)
class Advisory:
    """Releases of a package with a known vulnerability.

    Attributes:
        package: its name.
        affected: the releases.
        ids: of the vulnerabilities.
        what: in a few words.
        accepted: why it is no error that such a release is installed; "" if it is one.
    """

    package: str
    affected: str
    ids: tuple[str, ...]
    what: str
    accepted: str = ""

    def affects(self, version: str) -> bool:
        """Return whether a release is one of them."""
        return SpecifierSet(self.affected).contains(version, prereleases=True)


ADVISORIES = (
    # https://pillow.readthedocs.io/en/stable/releasenotes/ of 12.1.1, 12.2.0, 12.3.0 and 13.0.0
    Advisory(
        "pillow",
        "<12.3",
        ("CVE-2026-25990", "CVE-2026-40192", "CVE-2026-59199", "CVE-2026-59205"),
        "writes beyond buffers while it decodes, crops and pastes",
    ),
    Advisory(
        "pillow",
        "<13",
        (
            "CVE-2026-96639",  # multi-frame images; critical
            "CVE-2026-112398",  # JPEG within FlashPix, GHSA-5x8w-8jj5-q52h; critical
            "CVE-2026-112403",  # JPEG, GHSA-8g5g-8vmr-9782; critical
            "CVE-2026-96643",
            "CVE-2026-112395",  # tiles of TIFF, GHSA-462x-pgg6-55fp
            "GHSA-q45j-58j2-45rg",  # short JPEG strips of TIFF
        ),
        "buffer overflows in JPEG and multi-frame images, reads beyond buffers in TIFF",
        accepted="Beam 2.77 requires pillow<13; see docs/install.md#pillow-13",
    ),
    # The releases of libheif that the wheels contain, read from their file names.
    Advisory(
        "pillow-heif",
        "<1.8",
        ("CVE-2026-84383", "CVE-2026-28231", "GHSA-x8r2-mggj-j6wr", "GHSA-vg7w-rp49-4fc2"),
        "libheif before 1.23.4, which writes beyond buffers",
    ),
    Advisory(
        "pillow-heif",
        "<1.8.1",
        ("GHSA-v8qw-hwjv-44hw", "GHSA-qwpf-5wf7-r996", "GHSA-9c75-9g8r-4728"),
        "libheif before 1.23.5",
    ),
    Advisory(
        "opencv-python-headless",
        "<4.12",
        ("CVE-2025-53644",),
        "writes to an uninitialized pointer while it reads JPEG",
    ),
    Advisory(
        "onnx",
        "<1.21",
        ("CVE-2026-27489", "CVE-2026-34445", "CVE-2026-34446", "CVE-2026-34447"),
        "a model can read other files and overwrite attributes of objects",
    ),
    Advisory("onnx", "<1.22", ("CVE-2026-44512",), "crashes while it converts versions of models"),
    Advisory("pyarrow", "<14.0.1", ("CVE-2023-47248",), "a Parquet file can run code"),
    Advisory("jinja2", "<3.1.6", ("CVE-2025-27516",), "a template can leave the sandbox"),
)


def vulnerable(
    installed: Mapping[str, str], advisories: Iterable[Advisory] = ADVISORIES
) -> list[Advisory]:
    """Return the advisories that concern what is installed.

    Args:
        installed: canonical name of a package to its version.
        advisories: all that are known.
    """
    return [
        one
        for one in advisories
        if one.package in installed and one.affects(installed[one.package])
    ]


def installed_packages() -> dict[str, str]:
    """Return the versions of the packages of this environment by their canonical names."""
    return {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}


def unaccepted(report: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return what pip-audit found.

    Args:
        report: its JSON.

    Returns:
        The number of packages about which the database knew anything, and a line for each
        vulnerability, unless it is accepted: no release mends it that would be no error.
    """
    known, lines = 0, []
    for package in report["dependencies"]:
        known += "skip_reason" not in package
        for found in package.get("vulns", ()):
            fixes = found["fix_versions"]
            if not _accepted(package["name"], fixes):
                names = ", ".join(sorted({found["id"], *found["aliases"]}))
                fixed = ", ".join(fixes) or "no release"
                lines.append(f"{package['name']} {package['version']}: {names}, fixed by {fixed}")
    return known, lines


def _accepted(package: str, fixes: Sequence[str]) -> bool:
    return bool(fixes) and any(
        one.accepted and one.package == package and not any(map(one.affects, fixes))
        for one in ADVISORIES
    )


def ask_pip_audit(program: str) -> tuple[int, list[str]]:
    """Return what pip-audit says of this environment, see :func:`unaccepted`; (0, []) if nothing.

    Args:
        program: its path.
    """
    site_packages = sysconfig.get_path("purelib")
    command = [program, "--path", site_packages, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        return unaccepted(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return 0, []


def main(arguments: list[str]) -> int:
    """Print what is known of this environment; return the exit status.

    Args:
        arguments: the path of pip-audit, if there is one.
    """
    installed = installed_packages()
    errors = 0
    for one in vulnerable(installed):
        version = f"{one.package} {installed[one.package]}"
        verdict = f"accepted, since {one.accepted}" if one.accepted else "upgrade it"
        print(f"{version}: {one.what} ({', '.join(one.ids)}): {verdict}")
        errors += not one.accepted
    known, lines = ask_pip_audit(arguments[0]) if arguments else (0, [])
    print("\n".join(lines), end="\n" if lines else "")
    if known:
        print(f"pip-audit knew {known} of {len(installed)} packages")
    else:
        print("pip-audit was NOT run, or could not reach PyPI: only the list of tests/audit.py was")
        print("checked, which is of November 2026")
    errors += len(lines)
    print(f"{errors} vulnerabilities to mend" if errors else "no vulnerability to mend")
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
