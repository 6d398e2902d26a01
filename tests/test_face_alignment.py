"""Faces get dlib's landmarks whatever detector finds them, and are cut by them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import featureid
from featureid.errors import ModelError, UsageError
from featureid.face_crops import cut_faces, digest_of_run, finder_for, open_face_finder
from featureid.images import DecodedImage, FaceFinder, FaceSettings, dlib_faces, open_detector
from featureid.images.align import Point
from featureid.images.dlib_faces import DLIBS_CROP, DlibLandmarks
from featureid.images.face import DetectedFace
from featureid.models import Preprocessing, resolve_model
from tests.face_images import astronaut, group, head

ROOT = Path(__file__).parents[1]
BLAZEFACE = ("blazeface", "blazeface-tiles")


@pytest.fixture(scope="module")
def preprocessing() -> Preprocessing:
    return resolve_model("face").preprocessing


def aligned(preprocessing: Preprocessing, detector: str) -> FaceFinder:
    finder = finder_for(preprocessing, FaceSettings("all", detector))
    assert finder
    return finder


@pytest.mark.parametrize("detector", BLAZEFACE)
def test_another_detector_gives_dlibs_landmarks_and_crop(
    preprocessing: Preprocessing, detector: str
) -> None:
    pixels = np.asarray(astronaut())
    image = DecodedImage(pixels, 512, 512, "PNG")
    ((wanted, crop),) = cut_faces(image, aligned(preprocessing, "dlib"), preprocessing)
    ((found, same),) = cut_faces(image, aligned(preprocessing, detector), preprocessing)
    np.testing.assert_allclose(found.landmarks, wanted.landmarks, atol=1.5)
    assert np.abs(same.astype(int) - crop.astype(int)).mean() < 6
    (own,) = open_detector(detector, Path("unused")).detect(pixels)
    assert found.box == own.box and found.landmarks != own.landmarks


def turned(
    pixels: npt.NDArray[np.uint8], face: DetectedFace, degrees: float
) -> tuple[npt.NDArray[np.uint8], DetectedFace, npt.NDArray[np.float64]]:
    """Return the image and its face, turned about its middle, and the rotation (2, 2)."""
    image = Image.fromarray(pixels).rotate(degrees, Image.Resampling.BICUBIC)
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array(image.size) / 2
    moved = (np.array(face.landmarks) - middle) @ rotation.T + middle
    return np.asarray(image), replace(face, landmarks=tuple(map(tuple, moved.tolist()))), rotation


@pytest.mark.parametrize("degrees", [-160, -90, -40, 15, 90])
def test_landmarks_turn_with_the_face(degrees: float) -> None:
    pixels = np.asarray(group((200, 200, 400), size=(800, 800)))
    (face,) = open_detector("blazeface", Path("unused")).detect(pixels)
    landmarks = DlibLandmarks()
    upright = np.array(landmarks.of(pixels, face, "blazeface").landmarks)
    moved, other, rotation = turned(pixels, face, degrees)
    found = np.array(landmarks.of(moved, other, "blazeface").landmarks)
    np.testing.assert_allclose(found, (upright - 400) @ rotation.T + 400, atol=3)


def test_a_face_may_be_cut_by_the_border_or_beyond_it() -> None:
    pixels = np.asarray(head(300))
    (face,) = open_detector("blazeface", Path("unused")).detect(pixels)
    landmarks = DlibLandmarks()
    whole = np.array(landmarks.of(pixels, face, "blazeface").landmarks)
    start = round((face.box[0] + face.landmarks[0][0]) / 2)
    part = np.ascontiguousarray(pixels[:, start:])
    moved = replace(face, landmarks=tuple((x - start, y) for x, y in face.landmarks))
    found = landmarks.of(part, moved, "blazeface").landmarks
    np.testing.assert_allclose(np.add(found, (start, 0)), whole, atol=5)
    nowhere = replace(face, landmarks=tuple((x - 5000, y) for x, y in face.landmarks))
    assert len(landmarks.of(pixels, nowhere, "blazeface").landmarks) == 5


def test_yunets_landmarks_give_dlibs_too() -> None:
    """Its points are not dlib's: here, they are put where they are on the average."""
    pixels = np.asarray(astronaut())
    (face,) = open_detector("dlib", Path("unused")).detect(pixels)
    _, right_eye, _, left_eye, _ = face.landmarks
    eyes = np.array([left_eye, right_eye])
    across, down = eyes[1] - eyes[0], np.array([eyes[0][1] - eyes[1][1], eyes[1][0] - eyes[0][0]])
    scale = 40.0  # between the inner corners of the eyes, in dlib's crop
    points = DLIBS_CROP["yunet"]
    middle = np.array([73.4, 45.4])
    placed = [
        eyes.mean(0) + (across * (x - middle[0]) + down * (y - middle[1])) / scale
        for x, y in points
    ]
    yunet = replace(face, landmarks=tuple((float(x), float(y)) for x, y in placed))
    found = DlibLandmarks().of(pixels, yunet, "yunet")
    np.testing.assert_allclose(found.landmarks, face.landmarks, atol=3)


# What is refused, and what tells the chains apart


def test_without_dlib_its_landmarks_are_not_replaced(
    preprocessing: Preprocessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dlib_faces, "dlib_is_installed", lambda: False)
    for detector in BLAZEFACE:
        with pytest.raises(ModelError, match=r"dlib is not installed, .* 'featureid\[faces\]'"):
            finder_for(preprocessing, FaceSettings(detector=detector))
        assert open_face_finder(FaceSettings(detector=detector)).find(np.asarray(astronaut()))


def test_a_model_that_knows_other_landmarks_refuses_the_detector() -> None:
    other: Mapping[str, list[Point]] = {"blazeface": [(40, 40), (80, 40), (60, 60), (60, 90)]}
    dlib = open_detector("dlib", Path("unused"))
    with pytest.raises(UsageError, match=r"the detector dlib, 'dlib'; it knows blazeface: choose"):
        FaceFinder(dlib, FaceSettings(), other)
    with pytest.raises(UsageError, match="it knows none"):
        FaceFinder(dlib, FaceSettings(), {})
    FaceFinder(dlib, FaceSettings(align=False), other)
    FaceFinder(open_detector("haar", Path("unused")), FaceSettings(detector="haar"), other)


def test_a_model_may_know_the_detectors_own_landmarks() -> None:
    template = [(40.0, 40.0), (80.0, 40.0), (60.0, 60.0), (60.0, 90.0)]
    detector = open_detector("blazeface", Path("unused"))
    settings = FaceSettings(detector="blazeface")
    finder = FaceFinder(detector, settings, {"dlib": DLIBS_CROP["dlib"], "blazeface": template})
    pixels = np.asarray(astronaut())
    (face,) = finder.find(pixels)
    assert face == detector.detect(pixels)[0]
    crop = finder.cut(pixels, face, 0, (112, 112))
    assert crop.shape == (112, 112, 3) and crop.any()


def test_the_digest_tells_how_faces_are_found_and_aligned(preprocessing: Preprocessing) -> None:
    digests = {
        digest_of_run(preprocessing, finder_for(preprocessing, settings))
        for settings in (
            FaceSettings(detector="dlib"),
            FaceSettings(detector="blazeface"),
            FaceSettings(detector="blazeface-tiles"),
            FaceSettings(detector="blazeface", align=False),
        )
    }
    detector = open_detector("blazeface", Path("unused"))
    own = FaceFinder(detector, FaceSettings(detector="blazeface"), {"blazeface": [(0, 0), (1, 1)]})
    assert len(digests | {preprocessing.digest_with(own.digested)}) == 5


# Commands, as processes


def run(*argv: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "featureid", *map(str, argv)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def test_commands_take_blazeface(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    astronaut().save(folder / "one.png")
    astronaut().convert("L").save(folder / "gray.png")
    group((20, 20, 90), (300, 60, 110), size=(900, 700)).save(folder / "small.png")

    found: dict[str, Any] = json.loads(
        run("faces", folder / "one.png", "--detector", "blazeface", "--json")
    )
    assert len(found["found"]) == 1 and found["found_by"].startswith("blazeface all ")
    compared = json.loads(
        run(
            *("compare", folder / "one.png", folder / "gray.png", "--model", "face"),
            *("--detector", "blazeface", "--json"),
        )
    )
    assert compared["cosine"] > 0.98
    run(
        *("embed", folder, "--output", tmp_path / "out", "--strip-prefix", f"{folder}/"),
        *("--model", "face", "--faces", "all", "--detector", "blazeface-tiles"),
    )
    snapshot = featureid.open_snapshot(str(tmp_path / "out"))
    assert {key: len(vectors) for key, vectors in snapshot.items()} == {
        "gray.png": 1,
        "one.png": 1,
        "small.png": 2,
    }
    assert snapshot.model.faces == "blazeface-tiles all min-face=20 no-face=skip"
    assert float(snapshot["one.png"][0] @ snapshot["gray.png"][0]) > 0.98
