"""Print digests of the pixels of every image, decoded and resized, to compare versions of Pillow.

``make pillow-test`` runs it.  An image that is refused has its reason instead.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import PIL
import skimage

from featureid.errors import ImageError
from featureid.images import decode_image, resize_image
from featureid.images.resize import STRETCH, ResizePolicy

FOLDERS = (Path(__file__).parent / "odd_images" / "files", Path(skimage.__file__).parent / "data")


POLICIES = (
    STRETCH,
    ResizePolicy("shortest", "bicubic", 0.875),
    ResizePolicy("pad", "bilinear"),
)


def digests(data: bytes) -> str:
    """Return digests of an image's pixels, decoded and resized, or why it is not decoded."""
    try:
        pixels = decode_image(data).pixels
    except ImageError as error:
        return error.reason
    turned = np.ascontiguousarray(pixels.transpose(1, 0, 2))  # what is wide becomes tall
    seen = [pixels]
    seen += [resize_image(one, 224, 224, by) for one in (pixels, turned) for by in POLICIES]
    return " ".join(
        hashlib.sha256(str(one.shape).encode() + one.tobytes()).hexdigest()[:16] for one in seen
    )


def main(folders: list[str]) -> None:
    """Print a line for each file of some folders, or of the tests' odd images and some photos."""
    files = [path for folder in folders or FOLDERS for path in Path(folder).rglob("*")]
    print(f"Pillow {PIL.__version__}", file=sys.stderr)
    for path in sorted(files):
        if path.is_file():
            print(digests(path.read_bytes()), path)


if __name__ == "__main__":
    main(sys.argv[1:])
