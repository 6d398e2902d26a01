"""Make pdq.json: hashes of the photos that scikit-image ships, by Meta's reference implementation.

    pip install pdqhash scikit-image    # pdqhash is built from the reference's C++ source
    python tests/golden/make_pdq.py

Each photo is hashed as it is and as a crop of an odd size.
"""

import json
from pathlib import Path

import numpy as np
import pdqhash
import skimage.data

PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "page", "moon")
CROP = (slice(3, 130), slice(7, 92))


def main() -> None:
    """Write the file."""
    hashes = {}
    for name in PHOTOS:
        pixels = getattr(skimage.data, name)()
        pixels = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
        for part, image in (("whole", pixels), ("crop", pixels[CROP])):
            bits, quality = pdqhash.compute(np.ascontiguousarray(image))
            text = np.packbits(np.asarray(bits, np.uint8)).tobytes().hex()
            hashes[f"{name} {part}"] = {"hash": text, "quality": int(quality)}
    place = Path(__file__).with_name("pdq.json")
    place.write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
