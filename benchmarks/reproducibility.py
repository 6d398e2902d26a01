"""Whether rows, shards and bits are the same when the same images are embedded in different ways.

python benchmarks/reproducibility.py [--data DIR] [--json]
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np

import featureid

VARIANTS = {
    "first run": [],
    "second run": [],
    "1 thread": ["--threads=1"],
    "4 threads": ["--threads=4"],
    "batch 1": ["--batch-size=1"],
    "batch 64": ["--batch-size=64"],
    "2 processes": ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
}


def embed(data: Path, output: Path, options: list[str]) -> featureid.Snapshot:
    """Run the command and open the snapshot that it published."""
    common.run_featureid("embed", data, "--output", output, "--num-shards=4", *options)
    return featureid.open_snapshot(str(output))


def shard_ranges(snapshot: featureid.Snapshot) -> list[tuple[int, str, str]]:
    """Return rows, first and last key of every shard: if all keys agree, these locate each key."""
    return [(s.rows, s.first_key, s.last_key) for s in snapshot.manifest.embeddings]


def compare(data: Path) -> dict[str, dict[str, Any]]:
    """Embed ``data`` in every way and compare each snapshot with the first."""
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


def table(result: dict[str, dict[str, Any]]) -> str:
    """Return a table with one line per variant."""
    return "\n".join(
        f"{name:<12}"
        + ("same rows and shards" if found["same_rows_and_shards"] else "DIFFERENT rows")
        + f", largest difference {found['largest_difference']}"
        for name, found in result.items()
    )


def main() -> None:
    """Run the comparison and print its table."""
    import skimage

    parser = common.make_parser(__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(skimage.__file__).parent / "data",
        help="folder of images; default: those that scikit-image ships",
    )
    options = parser.parse_args()
    result = compare(options.data)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
