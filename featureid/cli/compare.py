"""``featureid compare``: compare two images or faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featureid.cli import console, face_options
from featureid.images import DecodeLimits, FaceSettings, decode_image
from featureid.images.pdq import MAX_DISTANCE, hash_distances, image_hash
from featureid.inputs import read_image
from featureid.library import embed_faces, generate_feature_id, model_info
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
    face_options.add_arguments(parser, ("largest", "center", "all", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Compare two images; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    faces = face_options.settings(arguments)
    first, second = (_faces(image, arguments.model, faces) for image in arguments.images)
    scores = np.stack(
        [pair_scores(vector, np.stack([*second.values()])) for vector in first.values()]
    )
    nearest = divmod(int(scores.argmax()), len(second))
    a, b = (
        [*found.values()][number] for found, number in zip((first, second), nearest, strict=True)
    )
    model = model_info(arguments.model, faces)
    compared: dict[str, Any] = {
        "first": {"image": arguments.images[0]},
        "second": {"image": arguments.images[1]},
        "model": asdict(model),
        **_likeness(a, b),
        **_files(arguments.images),
    }
    lines: list[str] = []
    if faces is not None and faces.choose == "all":
        for name, found, number in zip(("first", "second"), (first, second), nearest, strict=True):
            compared[name] |= {"faces": [*found], "nearest": [*found][number]}
        compared["cosines"] = [[round(float(score), 6) for score in row] for row in scores]
        lines += _matrix(compared)
    lines += [
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


def _faces(image: str, model: str, faces: FaceSettings | None) -> dict[int, Matrix]:
    """Return the feature IDs of an image by face index; of one face or a whole image, one by 0."""
    if faces is not None and faces.choose == "all":
        return {face.index: vector for face, vector in embed_faces(image, model, faces)}
    return {0: generate_feature_id(image, model, faces)}


def _matrix(compared: dict[str, Any]) -> Iterator[str]:
    """Yield the table of all cosines, and which of them is described below it."""
    first, second = compared["first"], compared["second"]
    yield f"cosines: faces of {first['image']} down, of {second['image']} across"
    yield "face    " + "".join(f"{index:9d}" for index in second["faces"])
    for index, row in zip(first["faces"], compared["cosines"], strict=True):
        yield f"{index:8d}" + "".join(f"{cosine:9.4f}" for cosine in row)
    yield f"the most similar ones, {first['nearest']} and {second['nearest']}:"


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
    one, other = (
        image_hash(decode_image(data, limits=limits).pixels)[0] for data in (first, second)
    )
    distance = hash_distances(one, other[np.newaxis])[0]
    return {"identical": first == second, "hash_distance": int(distance)}


def _meaning(band: Band) -> str:
    bound = "less than " if band.bound else ""
    return (
        f"{band.threshold} or more: {band.name}; measured for this model: {bound}"
        f"{band.false_positives:.2g} of all pairs of different photos score so high"
    )
