"""Vectors to import through the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featureid.cli import main as cli
from tests.storage_samples import make_row


class ImportSamples:
    """A file of vectors, and an output that it is imported into.

    Attributes:
        vectors: the file.
        output: the folder for snapshots.
        arguments: the command line.
    """

    def __init__(self, folder: Path, rows: int = 50) -> None:
        self.vectors, self.output = folder / "vectors.npy", folder / "out"
        np.save(self.vectors, np.stack([make_row(str(row)).vector for row in range(rows)]))
        self.arguments = self.into(str(self.output))

    def into(self, output: str) -> list[str]:
        """Return the command line for another output."""
        places = ["import", str(self.vectors), "--output", output]
        return [*places, "--model=theirs", "--number-rows", "--num-shards=2"]

    @property
    def current(self) -> str:
        """The id of the current snapshot."""
        return (self.output / "current").read_text().strip()

    def run(self) -> str:
        """Import in this process and return the id of the snapshot, which is now current."""
        assert cli.main(self.arguments) == 0
        return self.current
