"""A face model: how well it distinguishes people with each detector, and its speed.

    python benchmarks/faces.py --data DIR [--pairs FILE]... [--yunet FILE] [--model NAME] [--json]

``DIR`` holds one folder of photos per person, as LFW does; every pair of photos counts, or with
``--pairs`` those of files like LFW's ``pairsDevTest.txt``.  A pair of which a photo has no face
counts as rejected.  YuNet is measured only if its ONNX file is given or cached.  ``--oracle`` is an
.npz file with ``chip`` (n, 150, 150, 3) uint8 RGB and ``embedding`` (n, 128), the output of dlib
itself for the chips.  ``benchmarks/face_detectors.py`` compares the detectors on harder pictures.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

from featureid.embedding import EmbedSettings
from featureid.face_crops import open_face_finder, yunet_file
from featureid.images import DETECTORS, FaceSettings, decode_image
from featureid.images.dlib_faces import dlib_is_installed
from featureid.inputs import InputSource
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.embed import run
from featureid.jobs.options import EmbedOptions
from featureid.models import open_backend, resolve_model
from featureid.parallel import available_cpus
from featureid.storage.reader import Snapshot, open_snapshot

_FARS = (0.01, 0.001)
_MISSED = -2.0  # the score of a pair without a vector, below any cosine
# Whose pipelines are timed against dlib's own chain.
_TIMED = ("dlib", "blazeface")
_SPEED_PHOTOS = 400
_GIL_SIDE = 1600


Pairs = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def embed(
    photos: list[Path], folder: Path, model: str, faces: FaceSettings
) -> tuple[Snapshot, float]:
    """Run the pipeline over ``photos``; return the snapshot and images/s."""
    manifest = folder / "photos.txt"
    manifest.write_text("".join(f"{photo}\n" for photo in photos))
    options = EmbedOptions(
        sources=(InputSource(str(manifest), manifest=True),),
        output=str(folder / "out"),
        model=model,
        settings=EmbedSettings(faces=faces),
    )
    beam_options, _ = split_beam_options([])
    summary = run(options, beam_options)
    return open_snapshot(summary.folder), summary.images_per_s


def listed_pairs(files: Sequence[Path], photos: Sequence[Path]) -> Pairs:
    """Return the pairs of files as LFW has them, as indices of photos."""
    index = {
        (photo.parent.name, int(photo.stem.rpartition("_")[2])): n for n, photo in enumerate(photos)
    }
    pairs = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            match line.split("\t"):
                case [person, first, second]:
                    pairs.append((index[person, int(first)], index[person, int(second)]))
                case [person, first, other, second]:
                    pairs.append((index[person, int(first)], index[other, int(second)]))
    first, second = np.array(pairs).T
    return first, second


def verification(
    photos: Sequence[Path], found: Mapping[str, npt.NDArray[np.float32]], pairs: Pairs
) -> dict[str, float]:
    """Return AUC and the true-accept rates at ``_FARS`` over pairs; a folder is a person."""
    first, second = pairs
    people = np.array([photo.parent.name for photo in photos])
    same = people[first] == people[second]
    missed = np.array([str(photo) not in found for photo in photos])
    dimension = len(next(iter(found.values())))
    none = np.zeros(dimension, np.float32)
    vectors = np.stack([found.get(str(photo), none) for photo in photos])
    scores = (vectors[first] * vectors[second]).sum(1)
    scores[missed[first] | missed[second]] = _MISSED
    alike, other = scores[same], np.sort(scores[~same])
    # How many pairs of different people each pair of one person beats; ties count half.
    wins = (np.searchsorted(other, alike) + np.searchsorted(other, alike, "right")) / 2
    tar = {
        f"tar_at_far_{far:g}": round(float((alike > other[-1 - int(len(other) * far)]).mean()), 4)
        for far in _FARS
    }
    return {
        "auc": round(float(wins.mean() / len(other)), 5),
        **tar,
        "without_face": int(missed.sum()),
    }


def quality(photos: list[Path], pairs: Pairs, model: str, faces: FaceSettings) -> dict[str, float]:
    """Return the quality of the vectors of the whole pipeline with one detector."""
    with tempfile.TemporaryDirectory() as folder:
        snapshot, _ = embed(photos, Path(folder), model, faces)
        keys = (str(photo.absolute()) for photo in photos)
        found = {key: vectors[0] for key, vectors in snapshot.items()}
        by_photo = {
            str(photo): found[key] for photo, key in zip(photos, keys, strict=True) if key in found
        }
        return verification(photos, by_photo, pairs)


def lock_hold_times(faces: FaceSettings, photo: Path) -> dict[str, float]:
    """Return the time of a detection, and how long it blocks another Python thread, in ms."""
    import cv2

    pixels = decode_image(photo.read_bytes()).pixels
    pixels = cv2.resize(pixels, (_GIL_SIDE, _GIL_SIDE))
    finder = open_face_finder(faces)
    finder.find(pixels)
    calls: list[float] = []

    def detect() -> None:
        for _ in range(5):
            start = time.perf_counter()
            finder.find(pixels)
            calls.append(time.perf_counter() - start)

    thread = threading.Thread(target=detect)
    thread.start()
    stalls = []
    last = time.perf_counter()
    while thread.is_alive():
        now = time.perf_counter()
        stalls.append(now - last)
        last = now
    thread.join()
    return {
        "call_ms": round(statistics.median(calls) * 1e3, 1),
        "longest_stall_ms": round(max(stalls) * 1e3, 1),
    }


def dlib_chain(photos: list[str], ready: Any) -> tuple[float, float]:
    """Run dlib's own chain over ``photos``; return when it started and ended."""
    import dlib
    import face_recognition_models

    models = Path(face_recognition_models.__file__).parent / "models"
    detector = dlib.get_frontal_face_detector()
    points = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(
        str(models / "dlib_face_recognition_resnet_model_v1.dat")
    )
    start = 0.0
    for number, photo in enumerate([photos[0], *photos]):
        if number == 1:  # the first photo is the warm-up
            ready.wait()
            start = time.time()
        image = dlib.load_rgb_image(photo)
        for box in detector(image, 0):
            chip = dlib.get_face_chip(image, points(image, box), size=150, padding=0.25)
            network.compute_face_descriptor(chip)
    return start, time.time()


def dlib_speed(photos: list[Path]) -> float:
    """Return images/s of dlib's own chain with one process per core."""
    cores = available_cpus()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(cores) as pool:
        ready = manager.Barrier(cores)
        jobs = [
            pool.apply_async(dlib_chain, ([str(photo) for photo in photos[core::cores]], ready))
            for core in range(cores)
        ]
        spans = [job.get() for job in jobs]
    return len(photos) / (max(end for _, end in spans) - min(start for start, _ in spans))


def pipeline_speed(photos: list[Path], model: str, faces: FaceSettings) -> float:
    """Return images/s of the pipeline over ``_SPEED_PHOTOS`` files, without the start-up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        links = [folder / f"{n:05d}{photos[n % len(photos)].suffix}" for n in range(_SPEED_PHOTOS)]
        for number, link in enumerate(links):
            os.symlink(photos[number % len(photos)].resolve(), link)
        return embed(links, folder, model, faces)[1]


def agreement(oracle: Path) -> float:
    """Return the largest difference from dlib's own numbers."""
    bundle = resolve_model("face")
    with np.load(oracle, allow_pickle=False) as arrays:
        chips, wanted = arrays["chip"], arrays["embedding"]
    return float(np.abs(open_backend(bundle).embed(chips) - wanted).max())


def speedups(photos: list[Path], model: str, repeats: int) -> dict[str, Any]:
    """Return images/s of pipelines and of dlib's own chain, and their ratios.

    They run one after the other, so that changes in the machine's speed affect all.
    """
    rounds = [
        {
            **{name: pipeline_speed(photos, model, FaceSettings(detector=name)) for name in _TIMED},
            "own": dlib_speed(photos),
        }
        for _ in range(repeats)
    ]
    ratios = [{name: each[name] / each["own"] for name in _TIMED} for each in rounds]
    return {
        "dlib_images_per_s": round(statistics.median(each["own"] for each in rounds), 1),
        "speedup_over_dlib": {
            name: round(ratio, 2) for name, ratio in common.medians(ratios).items()
        },
    }


def measure(
    photos: list[Path], pairs: Pairs, model: str, yunet: str, repeats: int
) -> dict[str, Any]:
    """Return all figures by name; without ``repeats``, no times."""
    detectors: dict[str, Any] = {}
    for name in DETECTORS:
        if (name == "yunet" and not yunet) or (name == "dlib" and not dlib_is_installed()):
            continue
        file = yunet if name == "yunet" else ""
        faces = FaceSettings(detector=name, detector_model=file)
        box = FaceSettings(detector=name, detector_model=file, align=False)
        figures: dict[str, Any] = quality(photos, pairs, model, faces)
        figures["box"] = quality(photos, pairs, model, box)
        if repeats:
            speeds = [pipeline_speed(photos, model, faces) for _ in range(repeats)]
            figures["images_per_s"] = round(statistics.median(speeds), 1)
            figures["lock"] = lock_hold_times(faces, photos[0])
        detectors[name] = figures
    result: dict[str, Any] = {"photos": len(photos), "pairs": len(pairs[0]), "detectors": detectors}
    if repeats and dlib_is_installed():
        result |= speedups(photos, model, repeats)
    return result


def table(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| detector | AUC | TAR at FAR 1 % | at 0.1 % | no face | box: AUC | box: TAR | images/s "
        "| call | stall |",
        "|---" * 10 + "|",
    ]
    for name, found in result["detectors"].items():
        lock = found.get("lock", {})
        cells = [
            name,
            f"{found['auc']:.4f}",
            f"{found['tar_at_far_0.01']:.3f}",
            f"{found['tar_at_far_0.001']:.3f}",
            f"{found['without_face']}",
            f"{found['box']['auc']:.4f}",
            f"{found['box']['tar_at_far_0.01']:.3f}",
            f"{found.get('images_per_s', '')}",
            f"{lock.get('call_ms', '')} ms",
            f"{lock.get('longest_stall_ms', '')} ms",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rest = [f"{name}: {value}" for name, value in result.items() if name != "detectors"]
    return "\n".join([*lines, "", *rest])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="one folder of photos per person")
    add(
        "--pairs",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="LFW's files of pairs; default: all pairs of photos",
    )
    add("--model", default="face", help="a model of faces; default: %(default)s")
    add("--yunet", metavar="FILE", help="YuNet's ONNX file; default: the cached one, if any")
    add("--oracle", type=Path, metavar="FILE", help="chips and dlib's vectors, an .npz file")
    add("--repeats", type=int, default=3, help="rounds of timing, 0 for none; default: %(default)s")
    options = parser.parse_args()
    files = sorted(options.data.glob("*/*"))
    photos = [path for path in files if path.suffix.lower() in common.IMAGE_SUFFIXES]
    if not photos:
        parser.error(f"{options.data} has no photos in subfolders")
    pairs: Pairs = np.triu_indices(len(photos), 1)
    if options.pairs:
        pairs = listed_pairs(options.pairs, photos)
        used = np.unique(pairs)
        photos = [photos[index] for index in used]
        pairs = (np.searchsorted(used, pairs[0]), np.searchsorted(used, pairs[1]))
    cached = str(yunet_file()) if yunet_file().exists() else ""
    result = measure(photos, pairs, options.model, options.yunet or cached, options.repeats)
    if options.oracle:
        result["largest_difference_to_oracle"] = agreement(options.oracle)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
