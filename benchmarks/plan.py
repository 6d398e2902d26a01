"""What ``featureid plan`` estimates compared with what ``featureid embed`` measures.

    python benchmarks/plan.py [--images 1500] [--data DIR] [--json]

The inputs are small JPEGs, large JPEGs, and PNGs of which every tenth is truncated.  Figures are
medians of several rounds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import common
from PIL import Image

DISTINCT = 40
ROUNDS = 3


def make_inputs(scratch: Path, images: int, data: Path | None) -> dict[str, Path]:
    """Return name to folder of every input, after creating them."""
    folders = {name: scratch / name for name in ("small_jpeg", "large_jpeg", "png_tenth_bad")}
    common.make_images(folders["small_jpeg"], images, data)
    small = sorted(folders["small_jpeg"].iterdir())[:DISTINCT]
    make_variants(folders["large_jpeg"], small, images // 2, ".jpg", (3000, 2250))
    make_variants(folders["png_tenth_bad"], small, images // 2, ".png", (800, 600))
    for path in sorted(folders["png_tenth_bad"].iterdir())[:DISTINCT:10]:
        with path.open("r+b") as file:  # every link to it is truncated, too
            file.truncate(path.stat().st_size - 1000)
    return folders


def make_variants(
    folder: Path, sources: list[Path], count: int, suffix: str, size: tuple[int, int]
) -> None:
    """Create ``folder`` with ``count`` images resized from ``sources``, linked several times."""
    folder.mkdir()
    for i in range(count):
        target = folder / f"{i:06d}{suffix}"
        if i < DISTINCT:
            Image.open(sources[i % len(sources)]).resize(size).save(target)
        else:
            os.link(folder / f"{i % DISTINCT:06d}{suffix}", target)


def measure(images: int, data: Path | None) -> dict[str, dict[str, float]]:
    """Return estimated and measured figures of every input."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = make_inputs(Path(scratch), images, data)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
        for _ in range(ROUNDS):
            for name, folder in folders.items():
                rounds[name].append(measure_once(folder, Path(scratch, f"out_{name}")))
    result = {}
    for name, figures in rounds.items():
        ratios = [one["rate_ratio"] for one in figures]
        extremes = {"min_rate_ratio": min(ratios), "max_rate_ratio": max(ratios)}
        result[name] = common.medians(figures) | extremes
    return result


def measure_once(folder: Path, output: Path) -> dict[str, float]:
    """Return the figures of one plan and the run after it."""
    plan = common.run_featureid("plan", folder).summary
    run = common.run_featureid("embed", folder, "--output", output, "--no-previous")
    pairs = {
        "images_per_s": (plan["images_per_s"], run.summary["images_per_s"]),
        "wall_s": (plan["wall_s"], round(run.wall_s, 3)),
        "peak_mb": (plan["peak_mb"], run.peak_mb),
        "failures": (sum(plan["failures_by_reason"].values()), run.summary["failed"]),
    }
    figures = {
        f"{name}_{kind}": value
        for name, pair in pairs.items()
        for kind, value in zip(("estimated", "measured"), pair, strict=True)
    }
    estimated, measured = pairs["images_per_s"]
    return {**figures, "rate_ratio": round(estimated / measured, 3)}


def table(result: dict[str, Any]) -> str:
    """Return one block of lines per input."""
    return "\n".join(
        "\n".join([name, *(f"  {figure:<26}{value}" for figure, value in figures.items())])
        for name, figures in result.items()
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=1500, help="default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of photos to crop")
    options = parser.parse_args()
    result = measure(options.images, options.data)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
