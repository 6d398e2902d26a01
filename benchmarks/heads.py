"""What a head finds that was trained without labels: edited copies of other photos.

    python benchmarks/heads.py DIR [--held-out 400] [--json] [--train OPTION ...]

Of the photos below DIR, ``--held-out`` are edited in 22 ways; from up to 1,000 of the others,
``featureid train --from-snapshot`` makes a model.  ``recall`` is the share of the edited photos
that score more with their own photo than all but 0.1 % of the pairs of an edited photo with another
one: by the model ``image`` with its fixed projection, by the trained head, and by all features
before either: for copies after three edits in turn (``combined``), which are not those that the
head was trained on; for hard edits, easy ones, and each.  Needs the extra ``train``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt
from PIL import Image

import featureid
from featureid.models import resolve_model, write_bundle
from featureid.models.bundle import pooled
from featureid.models.features import Reduction
from featureid.training.edits import EDITS, edited

Matrix = npt.NDArray[np.float32]

_FALSE_POSITIVES = 0.001
#: Of the others, the model ``image`` finds nearly all copies.
HARD = ("jpeg 10", "quarter size", "gray", "crop 70 %", "rotate 15", "rotate 90")
#: Copies of a photo, and edits of each.
COMBINED, IN_TURN = 4, 3


def features_of(paths: Sequence[Path], model: Path) -> Matrix:
    """Return features of photos and of their copies, (1 + edits + COMBINED, photos, d)."""
    photos = [Image.open(path).convert("RGB") for path in paths]
    rng = np.random.default_rng(1)
    names = [*EDITS]
    kinds: list[list[list[str]]] = [[[name]] * len(photos) for name in names]
    for _ in range(COMBINED):
        kinds.append([rng.choice(names, IN_TURN, replace=False).tolist() for _ in photos])
    copies = (map(edited, photos, kind) for kind in kinds)
    return np.stack([featureid.embed_images([*some], model) for some in (photos, *copies)])


def reduced(features: Matrix, reduction: Reduction | None) -> Matrix:
    """Return the unit vectors that a model makes of features."""
    if reduction is None:
        return features
    found = features @ reduction.matrix
    if reduction.offset is not None:
        found += reduction.offset
    unit: Matrix = found / np.linalg.norm(found, axis=-1, keepdims=True)
    return unit


def recalls(vectors: Matrix) -> dict[str, float]:
    """Return the recall of each edit, of all hard and all easy ones, and of combined ones."""
    photos, names = vectors[0], [*EDITS]
    scores = np.stack([copies @ photos.T for copies in vectors[1:]])
    own = np.eye(len(photos), dtype=bool)

    def recall(kinds: Sequence[int]) -> float:
        some = scores[kinds]
        threshold = np.quantile(some[:, ~own], 1 - _FALSE_POSITIVES)
        return round(float((some[:, own] > threshold).mean()), 4)

    hard = [names.index(name) for name in HARD]
    easy = [number for number in range(len(names)) if number not in hard]
    return {
        "combined": recall(range(len(names), len(scores))),
        "hard": recall(hard),
        "easy": recall(easy),
        **{name: recall([number]) for number, name in enumerate(names)},
    }


def trained_on(paths: Sequence[Path], place: Path, options: Sequence[str]) -> Path:
    """Return the model that is trained on photos."""
    listing = place / "photos.txt"
    listing.write_text("\n".join(str(path.absolute()) for path in paths), encoding="utf-8")
    common.run_featureid("embed", "--manifest", listing, "--output", place / "out")
    model = place / "head.fidmodel"
    common.run_featureid("train", "--from-snapshot", place / "out", "--output", model, *options)
    return model


def main() -> None:
    """Train, compare, and print the result."""
    parser = common.make_parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DIR", help="photos of different things")
    parser.add_argument(
        "--held-out", type=int, default=400, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--train", nargs="...", default=[], metavar="OPTION", help="for train")
    options = parser.parse_args()
    paths = sorted(
        path for path in options.data.rglob("*") if path.suffix.lower() in common.IMAGE_SUFFIXES
    )
    order = np.random.default_rng(0).permutation(len(paths)).tolist()
    held_out, others = order[: options.held_out], order[options.held_out :]
    base = resolve_model("image")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        head = resolve_model(str(trained_on([paths[p] for p in others], place, options.train)))
        (place / "features.fidmodel").write_bytes(write_bundle(pooled(base)))
        features = features_of([paths[p] for p in held_out], place / "features.fidmodel")
    result: dict[str, Any] = {"photos": len(others), "held_out": len(held_out)}
    found = {
        "fixed": recalls(reduced(features, base.reduction)),
        "head": recalls(reduced(features, head.reduction)),
        "features": recalls(features),
    }
    lines = ["| recall | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for name in found["fixed"]:
        row = " | ".join(f"{figures[name]:.4f}" for figures in found.values())
        lines.append(f"| {name} | {row} |")
    common.print_result(result | found, options.json, "\n".join(lines))


if __name__ == "__main__":
    main()
