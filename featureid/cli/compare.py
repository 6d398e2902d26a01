"""``featureid compare``: compare two images or faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from featureid.cli import console, face_options, report_option, verdicts
from featureid.errors import UsageError
from featureid.evaluation.calibration import Calibration, find_calibration
from featureid.images import DecodeLimits, FaceSettings, decode_image
from featureid.images.pdq import MAX_DISTANCE, hash_distances, image_hash
from featureid.inputs import read_image
from featureid.library import embed_faces, generate_feature_id, model_info, naming
from featureid.matching.scores import Matrix, pair_scores, query_vectors, row_vectors
from featureid.reports.compare import compare_report
from featureid.storage import files


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Compare two images or, with --model face, two faces."
    )
    parser.add_argument("images", nargs=2, metavar="IMAGE", help="a file or a URI")
    parser.add_argument(
        "--model", default="image", metavar="NAME|FILE", help="model; default: %(default)s"
    )
    verdicts.add_argument(parser)
    report_option.add_argument(parser)
    parser.add_argument(
        "--prior",
        type=float,
        metavar="P",
        help="how probable it is beforehand that both show one person or image; prints how "
        "probable it is then",
    )
    face_options.add_arguments(parser, ("largest", "center", "all", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Compare two images; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    report_option.check(arguments)
    faces = face_options.settings(arguments)
    model = model_info(arguments.model, faces)
    data = [_read(image) for image in arguments.images]
    first, second = (
        _faces(image, content, arguments.model, faces)
        for image, content in zip(arguments.images, data, strict=True)
    )
    scores = np.stack(
        [pair_scores(vector, np.stack([*second.values()])) for vector in first.values()]
    )
    nearest = divmod(int(scores.argmax()), len(second))
    a, b = (
        [*found.values()][number] for found, number in zip((first, second), nearest, strict=True)
    )
    compared: dict[str, Any] = {
        "first": {"image": arguments.images[0]},
        "second": {"image": arguments.images[1]},
        "model": asdict(model),
        **_likeness(a, b),
        **_files(*data),
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
    calibration = find_calibration(model, arguments.calibration)
    if calibration is not None:
        judged = _judged(calibration, a, b, arguments.prior)
        compared |= judged
        lines += _judgment(judged, calibration)
    elif arguments.prior is not None:
        raise UsageError(
            f"no calibration of the model {model.name!r} is known, so that a `prior` says nothing "
            "of a score; give one as `calibration`"
        )
    if arguments.report:
        places = [files.absolute(image) for image in arguments.images]
        report = compare_report(arguments.images, places, compared["cosine"], lines)
        lines.append(report_option.write(arguments.report, report))
    console.print_result(compared, arguments.json, lines)
    return console.DONE


def _read(image: str) -> bytes:
    with naming(image):
        return read_image(image, DecodeLimits().max_bytes)


def _faces(image: str, content: bytes, model: str, faces: FaceSettings | None) -> dict[int, Matrix]:
    """Return the feature IDs of an image by face index; of one face or a whole image, one by 0."""
    with naming(image):
        if faces is not None and faces.choose == "all":
            return {face.index: vector for face, vector in embed_faces(content, model, faces)}
        return {0: generate_feature_id(content, model, faces)}


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


def _files(first: bytes, second: bytes) -> dict[str, Any]:
    """Return whether two files have the same bytes, and in how many bits their hashes differ."""
    if first == second:
        return {"identical": True, "hash_distance": 0}
    limits = DecodeLimits()
    one, other = (
        image_hash(decode_image(data, limits=limits).pixels)[0] for data in (first, second)
    )
    distance = hash_distances(one, other[np.newaxis])[0]
    return {"identical": False, "hash_distance": int(distance)}


def _judged(calibration: Calibration, a: Matrix, b: Matrix, prior: float | None) -> dict[str, Any]:
    """Return the verdict on two feature IDs and what it rests on."""
    found: dict[str, Any] = {}
    cohort = calibration.opened_cohort()
    if cohort is None:
        (score,) = pair_scores(a, b[np.newaxis]).tolist()
    else:
        here, there = cohort.corrections(np.stack([a, b]))
        (score,) = pair_scores(query_vectors(a, here), row_vectors(b, there)[np.newaxis]).tolist()
        found["corrected_score"] = round(score, 6)
    verdict = calibration.verdict(score)
    if prior is not None:
        probability = verdicts.probability(calibration, verdict, prior)
        found |= {"prior": prior, "probability": round(probability, 6)}
    return {"verdict": verdict, **found, "calibration": verdicts.described(calibration)}


def _judgment(judged: dict[str, Any], calibration: Calibration) -> Iterator[str]:
    if "corrected_score" in judged:
        yield f"corrected by the cohort: {judged['corrected_score']:.4f}"
    percentiles = calibration.different_percentiles
    if calibration.model.faces and not calibration.cohort:
        yield (
            f"for comparison: the cosine of two different people is {percentiles['50']:.3f} in the "
            f"median, and above {percentiles['99']:.3f} for 1 %"
        )
    yield from verdicts.lines(calibration, judged["verdict"])
    if "prior" in judged:
        yield (
            f"probability that both are of one: {judged['probability']:.4g}, if it was "
            f"{judged['prior']:g} before they were compared"
        )
