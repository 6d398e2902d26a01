"""Copies of photos, edited in 22 ways: which of them vectors and perceptual hashes find.

    python benchmarks/edits.py [--data DIR] [--photos N] [--json]

Each of N photos below ``DIR`` (by default those that scikit-image ships) is edited and compared
with all photos.  ``recall`` is the share of the edited ones that are found as copies of their own
photo, ``false`` the number of pairs with another photo that are taken for copies: by the cosine of
the vectors of the model ``image``, by PDQ, by either, and by the pHash of the package imagehash, if
it is installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import common
import numpy as np
import numpy.typing as npt
from PIL import Image

import featureid
from featureid.images.pdq import MAX_DISTANCE, image_hash
from featureid.matching.hashes import Hashes
from featureid.training.edits import EDITS

#: (n, m) bool.
Found = npt.NDArray[np.bool_]

_COSINES = (0.9, 0.8)
# Of 64 bits, as imagededup compares them by default.
_PHASH_DISTANCE = 10


class Prints:
    """Vectors, PDQ hashes and, if imagehash is installed, pHashes of photos."""

    def __init__(self, photos: Sequence[Image.Image]) -> None:
        self.vectors = featureid.embed_images(photos)
        found = [image_hash(np.asarray(photo)) for photo in photos]
        quality = np.array([quality for _, quality in found], np.uint8)
        self.pdq = Hashes.of(np.stack([bits for bits, _ in found]), quality)
        self.phash = _phashes(photos)

    def copies(self, known: Prints) -> Iterator[tuple[str, Found]]:
        """Yield for each method which photos it takes for copies of which known ones."""
        cosines = self.vectors @ known.vectors.T
        apart = np.stack([self.pdq.distances(row, known.pdq) for row in range(len(self.pdq))])
        near = (apart >= 0) & (apart <= MAX_DISTANCE)
        yield f"pdq {MAX_DISTANCE}", near
        for cosine in _COSINES:
            yield f"cosine {cosine}", cosines >= cosine
            yield f"cosine {cosine} or pdq", near | (cosines >= cosine)
        if self.phash is not None and known.phash is not None:
            bits = (self.phash[:, np.newaxis] != known.phash).sum(axis=2)
            yield f"phash {_PHASH_DISTANCE}", bits <= _PHASH_DISTANCE


def _phashes(photos: Sequence[Image.Image]) -> Found | None:
    """Return pHashes, (n, 64)."""
    try:
        phash = importlib.import_module("imagehash").phash
    except ImportError:
        return None
    return np.stack([phash(photo).hash.ravel() for photo in photos])


def main() -> None:
    """Compare, and print the result."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="photos")
    parser.add_argument("--photos", type=int, default=300, metavar="N", help="how many")
    arguments = parser.parse_args()
    photos = [*islice(common.photos(arguments.data), arguments.photos)]
    known = Prints(photos)
    recall: dict[str, dict[str, float]] = {}
    false: dict[str, int] = {}
    for name, edit in EDITS.items():
        recall[name] = {}
        for method, found in Prints([edit(photo) for photo in photos]).copies(known):
            own = np.diagonal(found)
            recall[name][method] = round(float(own.mean()), 3)
            false[method] = false.get(method, 0) + int(found.sum() - own.sum())
    methods = [*false]
    mean = {m: round(float(np.mean([row[m] for row in recall.values()])), 3) for m in methods}
    pairs = len(EDITS) * len(photos) * (len(photos) - 1)
    rows = [["edit", *methods]]
    rows += [[name, *(f"{row[m]:.2f}" for m in methods)] for name, row in recall.items()]
    rows += [["mean", *(f"{mean[m]:.3f}" for m in methods)]]
    rows += [[f"false, of {pairs}", *(str(false[m]) for m in methods)]]
    table = "\n".join("  ".join(f"{cell:>18}" for cell in row) for row in rows)
    result = {"photos": len(photos), "pairs": pairs, "recall": recall, "mean": mean, "false": false}
    common.print_result(result, arguments.json, table)


if __name__ == "__main__":
    main()
