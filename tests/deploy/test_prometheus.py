"""The metrics that featureid writes, checked by Prometheus' own promtool."""

import subprocess
from pathlib import Path

from featureid.cli import main as cli
from tests.deploy.programs import BIN


def test_promtool_accepts_the_metrics(photos: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "ids.prom"
    for status, options in ((3, ["--max-pixels=1"]), (0, ["--no-previous"]), (2, ["--bogus"])):
        places = [str(photos / "small"), "--output", str(tmp_path / 'the "ids"\n')]
        assert cli.main(["embed", *places, "--metrics", str(metrics), *options]) == status
        done = subprocess.run(
            [BIN / "promtool", "check", "metrics"],
            input=metrics.read_bytes(),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
