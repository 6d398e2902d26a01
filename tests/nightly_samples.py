"""A folder of pictures that changes from night to night, and runs over it through the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featureid
from featureid.cli import main as cli
from featureid.storage.records import Failure
from featureid.storage.verify import verify_snapshot

COLUMNS = ("vector", "sha256", "source_size", "source_version", "width", "height")
Contents = tuple[dict[str, tuple[bytes, ...]], list[Failure]]


class Nights:
    """Pictures in a folder of their own, and the outputs made of them."""

    def __init__(self, photos: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.pictures = place / "pictures"
        self.output = place / "out"
        self._place, self._capsys, self._full = place, capsys, 0
        shutil.copytree(photos / "small", self.pictures)
        (self.pictures / "bad.jpg").write_bytes(b"no picture")

    def arguments(self, output: Path, *options: object) -> list[str]:
        """A command line that embeds the pictures."""
        prefix = f"{self.pictures}/"
        places = ("embed", self.pictures, "--output", output, "--strip-prefix", prefix)
        return [str(argument) for argument in (*places, "--num-shards=2", *options)]

    def run(self, *options: object, status: int = 0, output: Path | None = None) -> dict[str, Any]:
        """Run the command in this process and return its summary."""
        done = cli.main([*self.arguments(output or self.output, *options), "--json"])
        captured = self._capsys.readouterr()
        assert done == status, captured.err
        if status == 0:
            summary: dict[str, Any] = json.loads(captured.out)
            return summary
        assert captured.err.count("\n") == 1, captured.err
        return {"error": captured.err}

    def check(self) -> None:
        """The current snapshot is whole and holds exactly what a full run gives."""
        self._full += 1
        full = self._place / f"full{self._full}"
        self.run(output=full)
        report = verify_snapshot(str(self.output))
        assert report.ok, report.problems
        assert contents(self.output) == contents(full)

    @property
    def current(self) -> str:
        """The id of the current snapshot."""
        return (self.output / "current").read_text().strip()


def contents(output: Path) -> Contents:
    """Key -> the bytes of every column; and the failures."""
    snapshot = featureid.open_snapshot(str(output))
    columns = [snapshot.column(name) for name in COLUMNS]
    rows = {
        key: tuple(
            value.encode() if isinstance(value, str) else np.asarray(value).tobytes()
            for value in values
        )
        for key, *values in zip(snapshot.row_keys(), *columns, strict=True)
    }
    return rows, sorted(snapshot.failures())
