"""Face detectors on harder and harder pictures: faces found, false finds, and CPU time.

    python benchmarks/face_detectors.py --data DIR [--plain DIR] [--yunet FILE] [--json]

``DIR`` holds one folder of photos per person, with the face in the middle, as LFW does; the first
photo of each of ``--photos`` people counts.  Harder pictures are made of them, with a fixed seed:
smaller, turned, with a mask drawn over mouth and nose, and crowds of small faces.  The photos below
``--plain`` must show no faces; they are also the background of crowds, which is gray without them.
YuNet is measured only if its ONNX file is given or cached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common
import cv2
import numpy as np
import numpy.typing as npt

from featureid.face_crops import open_face_finder, yunet_file
from featureid.images import DETECTORS, FaceFinder, FaceSettings
from featureid.images.dlib_faces import dlib_is_installed
from featureid.models import Preprocessing, resolve_model

Pixels = npt.NDArray[np.uint8]

# In photos of LFW, as parts of the side: the face, what is pasted into a crowd, and a mask.
_FACE = (0.3, 0.3, 0.7, 0.7)
_HEAD = (0.165, 0.165, 0.835, 0.835)
_MASK = ((0.33, 0.52), (0.5, 0.49), (0.67, 0.52), (0.66, 0.66), (0.58, 0.76), (0.42, 0.76))
_MASK_COLORS = ((190, 215, 235), (40, 45, 60), (235, 235, 235))
_TURN = 45
_CROWD, _CROWD_FACES, _CROWD_WIDTHS = (960, 1280), (4, 5), (20.0, 100.0)
_CROWDS = 25
_TILE = 320


class Picture(NamedTuple):
    """An image with the boxes of its faces: left, top, right, bottom."""

    pixels: Pixels
    faces: Sequence[tuple[float, float, float, float]]


def with_face(pixels: Pixels) -> Picture:
    """Return a photo with one face in its middle."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = _FACE
    return Picture(pixels, [(left * width, top * height, right * width, bottom * height)])


def shrunk(pixels: Pixels, scale: float) -> Pixels:
    """Return an image ``scale`` times as large."""
    small: Pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return small


def turned(pixels: Pixels, degrees: float) -> Pixels:
    """Return an image turned about its middle."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    result: Pixels = cv2.warpAffine(pixels, matrix, (width, height))
    return result


def masked(pixels: Pixels, number: int) -> Pixels:
    """Return a photo with a mask drawn over mouth and nose, in one of some colors."""
    height, width = pixels.shape[:2]
    corners = (np.array(_MASK) * (width, height)).astype(np.int32)
    result: Pixels = pixels.copy()
    cv2.fillPoly(result, [corners], _MASK_COLORS[number % len(_MASK_COLORS)])
    return result


def background(plain: Sequence[Pixels], rng: np.random.Generator) -> Pixels:
    """Return a large picture of photos without faces, side by side, or of gray."""
    height, width = _CROWD
    pixels = np.full((height, width, 3), 128, np.uint8)
    for top in range(0, height, _TILE) if plain else ():
        for left in range(0, width, _TILE):
            photo = plain[int(rng.integers(len(plain)))]
            pixels[top : top + _TILE, left : left + _TILE] = cv2.resize(
                photo, (_TILE, _TILE), interpolation=cv2.INTER_AREA
            )
    return pixels


def crowd(photos: Sequence[Pixels], plain: Sequence[Pixels], rng: np.random.Generator) -> Picture:
    """Return a large picture with a small face somewhere in each of its cells."""
    pixels = background(plain, rng)
    rows, columns = _CROWD_FACES
    height, width = _CROWD[0] // rows, _CROWD[1] // columns
    faces = []
    for cell in range(rows * columns):
        photo = photos[int(rng.integers(len(photos)))]
        side = photo.shape[0]
        first, last = round(_HEAD[0] * side), round(_HEAD[2] * side)
        part = (_FACE[2] - _FACE[0]) / (_HEAD[2] - _HEAD[0])
        face = float(np.exp(rng.uniform(*np.log(_CROWD_WIDTHS))))
        head = round(face / part)
        left = cell % columns * width + int(rng.integers(width - head))
        top = cell // columns * height + int(rng.integers(height - head))
        pixels[top : top + head, left : left + head] = cv2.resize(
            photo[first:last, first:last], (head, head), interpolation=cv2.INTER_AREA
        )
        room = (head - face) / 2
        faces.append((left + room, top + room, left + head - room, top + head - room))
    return Picture(pixels, faces)


def found_of(
    boxes: Sequence[tuple[float, ...]], faces: Sequence[tuple[float, ...]]
) -> tuple[list[bool], int]:
    """Return for each face whether it was found, and how many boxes are of no face.

    A box is of a face if its middle is in the face and its width is .4 to 2.5 times the face's.
    """
    unused = list(boxes)
    found = []
    for left, top, right, bottom in faces:
        for box in unused:
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            ratio = (box[2] - box[0]) / (right - left)
            if left <= x <= right and top <= y <= bottom and 0.4 < ratio < 2.5:
                unused.remove(box)
                found.append(True)
                break
        else:
            found.append(False)
    return found, len(unused)


def recall(finder: FaceFinder, pictures: Sequence[Picture]) -> float:
    """Return the share of faces that is found."""
    found = [
        hit
        for picture in pictures
        for hit in found_of([face.box for face in finder.find(picture.pixels)], picture.faces)[0]
    ]
    return round(float(np.mean(found)), 3)


def false_finds(finder: FaceFinder, images: Sequence[Pixels]) -> float:
    """Return how many faces are found in 100 images without any."""
    return round(100 * sum(len(finder.find(pixels)) for pixels in images) / len(images), 1)


def cpu_ms(work: Callable[[Any], object], items: Sequence[Any], repeats: int) -> float:
    """Return the CPU time of ``work`` on an item, in ms: the lowest mean of some rounds."""
    work(items[0])
    rounds = []
    for _ in range(repeats):
        start = time.thread_time()
        for item in items:
            work(item)
        rounds.append((time.thread_time() - start) / len(items) * 1e3)
    return round(min(rounds), 2)


def times(
    settings: FaceSettings, preprocessing: Preprocessing, photos: Sequence[Pixels], repeats: int
) -> dict[str, float]:
    """Return the CPU time in ms to find the largest face of a photo, and to cut it out."""
    crop = preprocessing.face
    assert crop is not None
    size = (preprocessing.height, preprocessing.width)
    bare = open_face_finder(settings)
    finder = open_face_finder(settings, crop)
    faces = [(pixels, face) for pixels in photos for face in finder.find(pixels)]
    return {
        "detect_ms": cpu_ms(bare.find, photos, repeats),
        "with_landmarks_ms": cpu_ms(finder.find, photos, repeats),
        "cut_ms": cpu_ms(
            lambda item: finder.cut(item[0], item[1], crop.margin, size), faces, repeats
        ),
    }


def measure(
    photos: Sequence[Pixels], plain: Sequence[Pixels], yunet: str, model: str, repeats: int
) -> dict[str, Any]:
    """Return all figures by the name of the detector."""
    rng = np.random.default_rng(0)
    numbered = list(enumerate(photos))
    crowds = [crowd(photos, plain, rng) for _ in range(_CROWDS)]
    sets: Mapping[str, list[Picture]] = {
        "plain": [with_face(photo) for photo in photos],
        "half": [with_face(shrunk(photo, 1 / 2)) for photo in photos],
        "third": [with_face(shrunk(photo, 1 / 3)) for photo in photos],
        "turned": [with_face(turned(photo, _TURN * (-1) ** n)) for n, photo in numbered],
        "mask": [with_face(masked(photo, n)) for n, photo in numbered],
        "crowd": crowds,
    }
    large = [background(plain, rng) for _ in range(2 * _CROWDS)]
    preprocessing = resolve_model(model).preprocessing
    result: dict[str, Any] = {}
    for name in DETECTORS:
        if (name == "yunet" and not yunet) or (name == "dlib" and not dlib_is_installed()):
            continue
        settings = FaceSettings("all", name, detector_model=yunet if name == "yunet" else "")
        finder = open_face_finder(settings)
        largest = FaceSettings("largest", name, detector_model=settings.detector_model)
        crowd_ms = cpu_ms(finder.find, [picture.pixels for picture in crowds[:5]], repeats)
        result[name] = {
            "recall": {kind: recall(finder, pictures) for kind, pictures in sets.items()},
            "false_per_100": false_finds(finder, plain) if plain else None,
            "false_per_100_large": false_finds(finder, large) if plain else None,
            **times(largest, preprocessing, photos[:50], repeats),
            "crowd_ms": crowd_ms,
        }
    return result


def table(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    kinds = [*next(iter(result.values()))["recall"]]
    numbers = ["false_per_100", "false_per_100_large", "detect_ms", "with_landmarks_ms", "cut_ms"]
    numbers.append("crowd_ms")
    lines = ["| detector | " + " | ".join([*kinds, *numbers]) + " |"]
    lines.append("|---" * (1 + len(kinds) + len(numbers)) + "|")
    for name, figures in result.items():
        cells = [f"{figures['recall'][kind]:.2f}" for kind in kinds]
        cells += ["" if figures[number] is None else f"{figures[number]}" for number in numbers]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read(paths: Sequence[Path]) -> Iterator[Pixels]:
    """Yield images as RGB."""
    for path in paths:
        pixels = cv2.imread(str(path))
        if pixels is not None:
            yield cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="one folder of photos per person")
    add("--plain", type=Path, metavar="DIR", help="photos without faces")
    add("--yunet", metavar="FILE", help="YuNet's ONNX file; default: the cached one, if any")
    add("--model", default="face", help="its input is what faces are cut for; default: face")
    add("--photos", type=int, default=300, help="of as many people; default: %(default)s")
    add("--repeats", type=int, default=3, help="rounds of timing; default: %(default)s")
    options = parser.parse_args()
    people: dict[Path, Path] = {}
    for path in sorted(options.data.glob("*/*")):
        if path.suffix.lower() in common.IMAGE_SUFFIXES:
            people.setdefault(path.parent, path)
    if not people:
        parser.error(f"{options.data} has no photos in subfolders")
    chosen = np.random.default_rng(0).permutation(sorted(people.values()))[: options.photos]
    photos = list(read([Path(path) for path in chosen]))
    plain = list(read(sorted(options.plain.rglob("*")))) if options.plain else []
    cached = str(yunet_file()) if yunet_file().exists() else ""
    result = measure(photos, plain, options.yunet or cached, options.model, options.repeats)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
