"""The face model: how well it distinguishes people with each detector, and its speed.

    python benchmarks/faces.py --data DIR [--yunet FILE] [--oracle FILE.npz] [--json]

``DIR`` holds one folder of photos per person, as LFW does; every pair of photos counts.  YuNet is
measured only if its ONNX file is given or cached.  The oracle holds ``chip`` (n, 150, 150, 3) uint8
RGB and ``embedding`` (n, 128), the output of dlib itself for the chips.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import numpy.typing as npt

from featureid.embedding import EmbedSettings
from featureid.face_crops import open_face_finder, yunet_file
from featureid.images import DETECTORS, FaceSettings, decode_image
from featureid.images.detectors import dlib_is_installed
from featureid.inputs import InputSource
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.embed import run
from featureid.jobs.options import EmbedOptions
from featureid.models import open_backend, resolve_model
from featureid.parallel import available_cpus
from featureid.storage.reader import Snapshot, open_snapshot

_FAR = 0.01
_SPEED_PHOTOS = 400
_GIL_SIDE = 1600


def embed(photos: list[Path], folder: Path, faces: FaceSettings) -> tuple[Snapshot, float]:
    """Run the pipeline over ``photos``; return the snapshot and images/s."""
    manifest = folder / "photos.txt"
    manifest.write_text("".join(f"{photo}\n" for photo in photos))
    options = EmbedOptions(
        sources=(InputSource(str(manifest), manifest=True),),
        output=str(folder / "out"),
        model="face",
        settings=EmbedSettings(faces=faces),
    )
    beam_options, _ = split_beam_options([])
    summary = run(options, beam_options)
    return open_snapshot(summary.folder), summary.images_per_s


def verification(keys: list[str], vectors: npt.NDArray[np.float32]) -> dict[str, float]:
    """Return AUC and the true-accept rate at ``_FAR`` over all pairs; a folder is a person."""
    people = np.array([Path(key).parent.name for key in keys])
    first, second = np.triu_indices(len(keys), 1)
    same = people[first] == people[second]
    scores = (vectors @ vectors.T)[first, second]
    alike, other = scores[same], np.sort(scores[~same])
    # How many pairs of different people each pair of one person beats; ties count half.
    wins = (np.searchsorted(other, alike) + np.searchsorted(other, alike, "right")) / 2
    threshold = other[-1 - int(len(other) * _FAR)]
    return {
        "auc": round(float(wins.mean() / len(other)), 5),
        "tar_at_far_1pct": round(float((alike > threshold).mean()), 4),
    }


def quality(photos: list[Path], faces: FaceSettings) -> dict[str, Any]:
    """Return the quality of the vectors of the whole pipeline with one detector."""
    with tempfile.TemporaryDirectory() as folder:
        snapshot, _ = embed(photos, Path(folder), faces)
        failed = snapshot.manifest.counts.failed
        return {**verification(snapshot.row_keys(), snapshot.vectors()), "without_face": failed}


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


def pipeline_speed(photos: list[Path], faces: FaceSettings) -> float:
    """Return images/s of the pipeline over ``_SPEED_PHOTOS`` files, without the start-up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        links = [folder / f"{n:05d}{photos[n % len(photos)].suffix}" for n in range(_SPEED_PHOTOS)]
        for number, link in enumerate(links):
            os.symlink(photos[number % len(photos)].resolve(), link)
        return embed(links, folder, faces)[1]


def agreement(oracle: Path) -> float:
    """Return the largest difference from dlib's own numbers."""
    bundle = resolve_model("face")
    with np.load(oracle, allow_pickle=False) as arrays:
        chips, wanted = arrays["chip"], arrays["embedding"]
    return float(np.abs(open_backend(bundle).embed(chips) - wanted).max())


def measure(photos: list[Path], yunet: str, oracle: Path | None, repeats: int) -> dict[str, Any]:
    """Return all figures by name."""
    detectors: dict[str, Any] = {}
    for name in DETECTORS:
        if (name == "yunet" and not yunet) or (name == "dlib" and not dlib_is_installed()):
            continue
        model = yunet if name == "yunet" else ""
        faces = FaceSettings(detector=name, detector_model=model, no_face="skip")
        box = FaceSettings(detector=name, detector_model=model, align=False)
        detectors[name] = {
            **quality(photos, faces),
            "box": quality(photos, box),
            "images_per_s": [pipeline_speed(photos, faces) for _ in range(repeats)],
            "lock": lock_hold_times(faces, photos[0]),
        }
        speeds = detectors[name]["images_per_s"]
        detectors[name]["images_per_s"] = round(statistics.median(speeds), 1)
    result: dict[str, Any] = {"photos": len(photos), "detectors": detectors}
    if "dlib" in detectors:
        # In pairs, so that changes in the machine's speed affect both.
        dlib = FaceSettings(detector="dlib")
        pairs = [(pipeline_speed(photos, dlib), dlib_speed(photos)) for _ in range(repeats)]
        result["pipeline_images_per_s"] = round(statistics.median(ours for ours, _ in pairs), 1)
        result["dlib_images_per_s"] = round(statistics.median(theirs for _, theirs in pairs), 1)
        ratios = [ours / theirs for ours, theirs in pairs]
        result["speedup_over_dlib"] = round(statistics.median(ratios), 2)
    if oracle:
        result["largest_difference_to_oracle"] = agreement(oracle)
    return result


def table(result: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| detector | AUC | TAR at FAR 1 % | box: AUC | box: TAR | images/s | call | stall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["detectors"].items():
        box, lock = found["box"], found["lock"]
        aligned = (
            ["", ""]
            if name == "haar"
            else [f"{found['auc']:.4f}", f"{found['tar_at_far_1pct']:.3f}"]
        )
        cells = [
            name,
            *aligned,
            f"{box['auc']:.4f}",
            f"{box['tar_at_far_1pct']:.3f}",
            f"{found['images_per_s']:.0f}",
            f"{lock['call_ms']:.0f} ms",
            f"{lock['longest_stall_ms']:.0f} ms",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rest = [f"{name}: {value}" for name, value in result.items() if name != "detectors"]
    return "\n".join([*lines, "", *rest])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="one folder of photos per person")
    add("--yunet", metavar="FILE", help="YuNet's ONNX file; default: the cached one, if any")
    add("--oracle", type=Path, metavar="FILE", help="chips and dlib's vectors, an .npz file")
    add("--repeats", type=int, default=3, help="rounds of timing; default: %(default)s")
    options = parser.parse_args()
    files = sorted(options.data.glob("*/*"))
    photos = [path for path in files if path.suffix.lower() in common.IMAGE_SUFFIXES]
    if not photos:
        parser.error(f"{options.data} has no photos in subfolders")
    cached = str(yunet_file()) if yunet_file().exists() else ""
    result = measure(photos, options.yunet or cached, options.oracle, options.repeats)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
