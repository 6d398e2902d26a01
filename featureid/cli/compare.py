"""``featureid compare``: compare two images or faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featureid.cli import console, face_options
from featureid.images import DecodeLimits, decode_image
from featureid.images.pdq import MAX_DISTANCE, hash_distances, pdq_hash
from featureid.inputs import read_image
from featureid.library import generate_feature_id, model_info
from featureid.matching.bands import Band, bands_of, people_scores
from featureid.matching.scores import Matrix, pair_scores


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Compare two images or, with --model face, two faces."
    )
    parser.add_argument("images", nargs=2, metavar="IMAGE", help="a file or a URI")
    parser.add_argument(
        "--model", default="image", metavar="NAME|FILE", help="model; default: %(default)s"
    )
    face_options.add_arguments(parser, ("largest", "center", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Compare two images; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    faces = face_options.settings(arguments)
    a, b = (generate_feature_id(image, arguments.model, faces) for image in arguments.images)
    model = model_info(arguments.model, faces)
    compared: dict[str, Any] = {
        "first": {"image": arguments.images[0]},
        "second": {"image": arguments.images[1]},
        "model": asdict(model),
        **_likeness(a, b),
        **_files(arguments.images),
    }
    lines = [
        f"cosine {compared['cosine']:.4f}, angle {compared['angle']:.1f}°, distance "
        f"{compared['distance']:.4f}",
        "the files have the same bytes"
        if compared["identical"]
        else f"the perceptual hashes differ in {compared['hash_distance']} of 256 bits; copies of "
        f"one picture in at most {MAX_DISTANCE}",
    ]
    if bands := bands_of(model):
        reached = [band for band in bands if compared["cosine"] >= band.threshold]
        compared["band"] = reached[0].name if reached else "none"
        lines.append(
            _meaning(reached[0])
            if reached
            else f"below {bands[-1].threshold}: different photos, as far as this model can tell"
        )
    if people := people_scores(model):
        percentiles = {"50": people.median, "99": people.high}
        compared["different_people"] = {"cosine_percentiles": percentiles}
        lines.append(
            f"for comparison: the cosine of two different people is {people.median} in the median, "
            f"and above {people.high} for 1 % (12 million pairs of photos of 3,000 people)"
        )
    console.print_result(compared, arguments.json, lines)
    return console.DONE


def _likeness(a: Matrix, b: Matrix) -> dict[str, float]:
    """Return how alike two feature IDs are; the angle in degrees."""
    score = float(pair_scores(a, b[np.newaxis])[0])
    return {
        "cosine": round(score, 6),
        "angle": round(float(np.degrees(np.arccos(np.clip(score, -1, 1)))), 3),
        "distance": round(float(np.linalg.norm(a - b)), 6),
    }


def _files(images: Sequence[str]) -> dict[str, Any]:
    """Return whether the files have the same bytes, and in how many bits their hashes differ."""
    limits = DecodeLimits()
    first, second = (read_image(image, limits.max_bytes) for image in images)
    one, other = (pdq_hash(decode_image(data, limits=limits).pixels)[0] for data in (first, second))
    distance = hash_distances(one, other[np.newaxis])[0]
    return {"identical": first == second, "hash_distance": int(distance)}


def _meaning(band: Band) -> str:
    bound = "less than " if band.bound else ""
    return (
        f"{band.threshold} or more: {band.name}; measured for this model: {bound}"
        f"{band.false_positives:.2g} of all pairs of different photos score so high"
    )
