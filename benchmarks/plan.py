"""What ``featureid plan`` foretells against what ``featureid embed`` then does, on three inputs.

python benchmarks/plan.py [--images 1500] [--data DIR] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from embed import Usage, make_pictures, run_command  # benchmarks/embed.py
from PIL import Image

DISTINCT = 40
ROUNDS = 3


def command(*arguments: object) -> tuple[dict[str, Any], Usage]:
    """Run a command in a process of its own; returns what it prints, and what it used."""
    return run_command([sys.executable, "-m", "featureid", *map(str, arguments), "--json"])


def make_inputs(scratch: Path, images: int, data: Path | None) -> dict[str, Path]:
    """Small JPEGs; large JPEGs; and PNGs of which every tenth is cut short."""
    folders = {name: scratch / name for name in ("small_jpeg", "large_jpeg", "png_tenth_bad")}
    for folder in folders.values():
        folder.mkdir()
    make_pictures(folders["small_jpeg"], images, data)
    pictures = sorted(folders["small_jpeg"].iterdir())[:DISTINCT]
    for name, size in (("large_jpeg", (3000, 2250)), ("png_tenth_bad", (800, 600))):
        suffix = name.split("_")[-1] if name == "large_jpeg" else "png"
        for i in range(images // 2):
            target = folders[name] / f"{i:06d}.{suffix}"
            if i < DISTINCT:
                Image.open(pictures[i % len(pictures)]).resize(size).save(target)
                if name == "png_tenth_bad" and i % 10 == 0:
                    target.write_bytes(target.read_bytes()[:-1000])
            else:
                os.link(folders[name] / f"{i % DISTINCT:06d}.{suffix}", target)
    return folders


def measure(images: int, data: Path | None) -> dict[str, dict[str, float]]:
    """Foretold and measured figures of every input, and what the one is of the other; medians."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = make_inputs(Path(scratch), images, data)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in folders}
        for _ in range(ROUNDS):
            for name, folder in folders.items():
                found[name].append(measure_once(folder, Path(scratch, f"out_{name}")))
    result = {}
    for name, rounds in found.items():
        result[name] = {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
        ratios = [one["rate_ratio"] for one in rounds]
        result[name] |= {"least_rate_ratio": min(ratios), "most_rate_ratio": max(ratios)}
    return result


def measure_once(folder: Path, output: Path) -> dict[str, float]:
    """The same of one input, once: first the plan, then the run."""
    foretold, _ = command("plan", folder)
    started = time.monotonic()
    done, usage = command("embed", folder, "--output", output)
    pairs = {
        "images_per_s": (foretold["images_per_s"], done["images_per_s"]),
        "wall_s": (foretold["wall_s"], round(time.monotonic() - started, 3)),
        "peak_mb": (foretold["peak_mb"], usage.peak_mb),
        "failures": (sum(foretold["failures_by_reason"].values()), done["failed"]),
    }
    figures = {
        f"{what}_{kind}": value
        for what, pair in pairs.items()
        for kind, value in zip(("foretold", "measured"), pair, strict=True)
    }
    return {**figures, "rate_ratio": round(foretold["images_per_s"] / done["images_per_s"], 3)}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--data", type=Path, help="a folder of photos to take crops of")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    arguments = parser.parse_args()
    result = measure(arguments.images, arguments.data)
    for name, figures in result.items():
        print(name)
        for key, value in figures.items():
            print(f"  {key:<26}{value}")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
