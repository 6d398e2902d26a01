"""Decode a folder of odd images and print what became of each: ``python -m tests.odd_images DIR``.

The folder holds ``files/`` and ``expected.npz`` with, for ``name.ext``, an array ``name__ext``,
uint8 (h, w, 3) RGB: what a good viewer shows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError
from featureid.images import decode_image

#: Decoders round differently, and lossy files are not exact: gray levels on average.
MAX_DIFFERENCE = 6.0


def expected_pixels(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Return file name to expected pixels, uint8 (h, w, 3)."""
    with np.load(folder / "expected.npz") as arrays:
        return {".".join(name.rsplit("__", 1)): arrays[name] for name in arrays.files}


def difference(data: bytes, expected: npt.NDArray[np.uint8]) -> float:
    """Return by how many gray levels the decoded image differs on average; inf for another size.

    Raises:
        ImageError: the file is refused.
    """
    pixels = decode_image(data).pixels
    if pixels.shape != expected.shape:
        return float("inf")
    return float(np.abs(pixels.astype(int) - expected).mean())


def describe(data: bytes, expected: npt.NDArray[np.uint8]) -> tuple[str, str]:
    """Return the outcome, ``right``, ``wrong`` or the reason of the refusal, and a remark."""
    try:
        found = difference(data, expected)
    except ImageError as error:
        return error.reason, str(error)
    return ("right" if found < MAX_DIFFERENCE else "wrong"), f"{found:.2f} levels"


def main() -> int:
    """Print one line per file, then the totals; 1 if a file is neither right nor unsupported."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    totals: dict[str, int] = {}
    for name, pixels in sorted(expected_pixels(folder).items()):
        outcome, remark = describe((folder / "files" / name).read_bytes(), pixels)
        totals[outcome] = totals.get(outcome, 0) + 1
        print(f"{name:28} {outcome:14} {remark}")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(totals.items())))
    return int(bool(totals.keys() - {"right", "unsupported"}))


if __name__ == "__main__":
    sys.exit(main())
