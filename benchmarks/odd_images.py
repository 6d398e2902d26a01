"""Decode a folder of odd images and print what became of each.

    python benchmarks/odd_images.py DIR [--json]

The folder holds ``files/`` and ``expected.npz`` with, for ``name.ext``, an array ``name__ext``,
uint8 (h, w, 3) RGB: what a good viewer shows. The exit status is 1 if a file is decoded wrongly.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import common
import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError
from featureid.images import decode_image

# Gray levels on average: decoders round differently, and lossy files are not exact.
_MAX_DIFFERENCE = 6.0


def outcome(data: bytes, expected: npt.NDArray[np.uint8]) -> tuple[str, str, str]:
    """Return ``right``, ``wrong`` or the reason of the refusal; the format; and a remark."""
    try:
        image = decode_image(data)
    except ImageError as error:
        return error.reason, "", str(error)
    if image.pixels.shape != expected.shape:
        return "wrong", image.format, f"{image.pixels.shape} instead of {expected.shape}"
    difference = float(np.abs(image.pixels.astype(int) - expected).mean())
    return (
        "right" if difference < _MAX_DIFFERENCE else "wrong",
        image.format,
        f"{difference:.2f} gray levels",
    )


def main() -> int:
    """Print one line per file, then the totals."""
    parser = common.make_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="with files/ and expected.npz")
    options = parser.parse_args()
    rows = {}
    with np.load(options.folder / "expected.npz") as expected:
        for array in sorted(expected.files):
            name = ".".join(array.rsplit("__", 1))
            data = (options.folder / "files" / name).read_bytes()
            rows[name] = outcome(data, expected[array])
    totals = Counter(found[0] for found in rows.values())
    lines = [f"{name:28} {row[0]:12} {row[1]:5} {row[2]}" for name, row in rows.items()]
    lines.append(", ".join(f"{count} {name}" for name, count in totals.most_common()))
    common.print_result({"totals": totals, "files": rows}, options.json, "\n".join(lines))
    return int(totals["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
