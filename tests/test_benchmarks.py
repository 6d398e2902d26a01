"""Every benchmark starts; what it measures is not tested, since tests never measure time."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HELPERS = {"common.py", "matching_rows.py", "vector_formats.py"}
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if path.name not in HELPERS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_shows_its_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text and f"python benchmarks/{script.name} " in text


@pytest.mark.parametrize(
    ("script", "options", "figures"),
    [
        (
            "search.py",
            "--rows 2000 --queries 20 --stream-rows 3000",
            {
                "exact_ratio",
                "one_query_ms",
                "threshold_ratio",
                "threshold_recall",
                "open_ratio",
                "stream_mb",
            },
        ),
        (
            "match.py",
            "--rows 2000 --queries 50 --rounds 1",
            {"match_ratio", "identical", "beam_s", "memory_s", "beam_mb", "memory_mb"},
        ),
        (
            "duplicates.py",
            "--rows 2000 --copies 50",
            {"exact_s", "cells_s", "cells_recall", "peak_mb"},
        ),
    ],
)
def test_a_small_run_prints_all_figures(script: str, options: str, figures: set[str]) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *options.split(), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert figures <= set(json.loads(done.stdout.splitlines()[-1]))
