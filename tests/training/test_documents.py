"""The example of docs/training.md, with its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import ROOT, examples


def areas_in(text: str) -> list[float]:
    """The areas under curves before and after training."""
    return [float(area) for area in re.findall(r"\b(?:before|after) +auc (0\.\d+)", text)]


def figures_in(text: str) -> list[str]:
    """The names of all figures with an interval."""
    return re.findall(r"(\w+) \d\.\d{4} \(", text)


def test_the_example_trains_what_the_document_says(tmp_path: Path) -> None:
    letters = next(code for language, code in examples("docs/evaluation.md") if "glyphs" in code)
    subprocess.run([sys.executable, "-c", letters], cwd=tmp_path, check=True)
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    commands, shown = re.findall(
        r"^```sh\n(featureid train glyphs .*?)^```\n\n```text\n(.*?)^```", text, re.M | re.S
    )[0]
    done = subprocess.run(
        ["bash", "-c", f'featureid() {{ "{sys.executable}" -m featureid "$@"; }}\n{commands}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    # Another processor may round features, and what is learned of them, in another way.
    assert areas_in(done.stdout) == pytest.approx(areas_in(shown), abs=0.01)
    assert figures_in(done.stdout) == figures_in(shown)
