"""The same pictures embedded in different ways: are the rows, the shards and the bits the same?

python benchmarks/reproducibility.py [--data DIR] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import featureid

ROOT = Path(__file__).parents[1]
VARIANTS = {
    "first run": [],
    "second run": [],
    "1 thread": ["--threads=1"],
    "4 threads": ["--threads=4"],
    "batch 1": ["--batch-size=1"],
    "batch 64": ["--batch-size=64"],
    "2 processes": ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
    "tensorflow": ["--backend=tensorflow"],
}


def embed(data: Path, output: Path, options: list[str]) -> featureid.Snapshot:
    """Run the command and open what it published."""
    command = [sys.executable, "-m", "featureid", "embed", str(data), "--output", str(output)]
    subprocess.run(
        [*command, "--num-shards=4", *options], cwd=ROOT, check=True, capture_output=True
    )
    return featureid.open_snapshot(str(output))


def shard_ranges(snapshot: featureid.Snapshot) -> list[tuple[int, str, str]]:
    """Rows, first and last key of every shard; with all keys equal this tells where each is."""
    return [(s.rows, s.first_key, s.last_key) for s in snapshot.manifest.embeddings]


def compare(data: Path) -> dict[str, dict[str, Any]]:
    """Embed ``data`` in every way and compare with the first."""
    result: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        first = embed(data, Path(scratch, "reference"), [])
        for name, options in VARIANTS.items():
            other = embed(data, Path(scratch, name), options)
            same = first.row_keys() == other.row_keys() and shard_ranges(first) == shard_ranges(
                other
            )
            difference = float(np.abs(first.vectors() - other.vectors()).max()) if same else None
            result[name] = {"same_rows_and_shards": same, "largest_difference": difference}
    return result


def main() -> None:
    """Run the comparison and print its table."""
    import skimage

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(skimage.__file__).parent / "data")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    arguments = parser.parse_args()
    result = compare(arguments.data)
    for name, found in result.items():
        same = "same rows and shards" if found["same_rows_and_shards"] else "DIFFERENT rows"
        print(f"{name:<12}{same}, largest difference {found['largest_difference']}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
