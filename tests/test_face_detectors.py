"""Detectors: sizes, bounds, settings, what is missing, and the threads of OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from featureid.cli.main import main
from featureid.errors import ModelError, UsageError
from featureid.face_crops import open_face_finder
from featureid.images import DETECTORS, FaceFinder, FaceSettings, dlib_faces, open_detector
from featureid.images.face import DetectedFace
from featureid.images.face_finder import MAX_DETECTION_SIDE, detect_bounded
from featureid.images.opencv import single_threaded
from featureid.known_files import file_in_package
from tests.face_images import astronaut
from tests.test_known_files import DAMAGE

INSTALLED = ("dlib", "blazeface", "blazeface-tiles", "haar")


@pytest.mark.parametrize("detector", INSTALLED)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (15, 400), (16, 16), (3000, 17), (17, 3000)])
def test_odd_sizes_have_no_face(detector: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    assert detect_bounded(open_detector(detector, Path("unused")), noise) == []


class Recorder:
    """A detector that finds two boxes anywhere, and records what it sees."""

    name = identity = "recorder"
    landmarks = ""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.threads: list[int] = []

    def detect(self, pixels: npt.NDArray[np.uint8]) -> list[DetectedFace]:
        self.shapes.append(pixels.shape)
        self.threads.append(cv2.getNumThreads())
        height, width = pixels.shape[:2]
        return [
            DetectedFace((0.0, -1.0, width, height), ((0.5, 0.5),), 1.0),
            DetectedFace((5.0, 5.0, 5.0, 9.0), (), 1.0),  # no area
        ]


def test_a_large_image_is_shrunk_for_detection() -> None:
    recorder = Recorder()
    (face,) = detect_bounded(recorder, np.zeros((1000, 4000, 3), np.uint8))
    assert recorder.shapes == [(400, MAX_DETECTION_SIDE, 3)]
    np.testing.assert_allclose(face.box, (0, -2.5, 4000, 1000))
    np.testing.assert_allclose(face.landmarks, [(1.25, 1.25)])


# What is missing or wrong


def test_an_unknown_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match="unknown detector 'mtcnn'; known: dlib, blazeface, blazeface-tiles, yunet, haar",
    ):
        open_detector("mtcnn", tmp_path)


def test_yunet_says_which_model_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"detectors/face_detection_yunet.*put it there"):
        open_face_finder(FaceSettings(detector="yunet"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "truncated or another version: it has 0 bytes, not 232589"),
        (b"version https://git-lfs\n", "truncated or another version: it has 24 bytes"),
        (bytes(232_589), "damaged or another version: its SHA-256 is not 8f2383e4"),
        (bytes(400_000), "damaged or another version: its SHA-256 is not 8f2383e4"),
    ],
    ids=["empty", "pointer of Git LFS", "damaged", "longer"],
)
def test_a_damaged_model_of_yunet_is_one_line(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.onnx").write_bytes(content)
    file = str(tmp_path / "no.onnx")
    arguments = ["faces", "photo.jpg", "--detector", "yunet", "--detector-model", file]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"no.onnx is {said}" in error and error.count("\n") == 1
    assert "name it with --detector-model" in error


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_of_dlib_is_one_clear_error(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = file_in_package("face_recognition_models", dlib_faces._POINTS_FILE)
    assert original is not None
    file = tmp_path / "points_copy" / dlib_faces._POINTS_FILE
    file.parent.mkdir(parents=True)
    (tmp_path / "points_copy" / "__init__.py").touch()
    file.write_bytes(DAMAGE[kind](original.read_bytes()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(dlib_faces, "_POINTS_PACKAGE", "points_copy")
    monkeypatch.setattr(
        dlib_faces, "_landmark_predictor", dlib_faces._landmark_predictor.__wrapped__
    )
    with pytest.raises(ModelError, match=r"landmarks\.dat is .* or another version: .* again$"):
        open_face_finder(FaceSettings())


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_cascade_is_one_clear_error(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(cv2.data.haarcascades, "haarcascade_frontalface_default.xml")
    (tmp_path / file.name).write_bytes(DAMAGE[kind](file.read_bytes()))
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
    with pytest.raises(ModelError, match=r"default\.xml is .* or another version: .* again$"):
        open_face_finder(FaceSettings(detector="haar"))


def test_without_dlib_no_other_detector_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlib_faces, "dlib_is_installed", lambda: False)
    for settings in (FaceSettings(), FaceSettings(detector="dlib")):
        with pytest.raises(ModelError, match=r"dlib is not installed: .*'featureid\[faces\]'"):
            open_face_finder(settings)
    assert open_face_finder(FaceSettings(detector="haar")).line.startswith("haar")


def test_dlib_is_the_default() -> None:
    assert open_face_finder(FaceSettings()).line.startswith("dlib largest")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"choose": "biggest"}, "`faces` is 'biggest'; known: largest, center, all, require-one"),
        ({"detector": "mtcnn"}, f"known: {', '.join(DETECTORS)}"),
        ({"detector": ""}, f"known: {', '.join(DETECTORS)}"),
        ({"no_face": "fail"}, "known: skip, whole"),
        ({"min_face": 0}, "0 pixels; give 1 or more"),
        ({"detector_model": "a.onnx"}, "dlib takes no model file"),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FaceSettings(**fields)


# The threads of OpenCV


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Let the caller's OpenCV use three threads."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("detector", INSTALLED)
def test_the_callers_threads_of_opencv_stay_as_they_are(detector: str, three_threads: None) -> None:
    finder = open_face_finder(FaceSettings(detector=detector))
    assert cv2.getNumThreads() == 3
    image = np.asarray(astronaut())
    (face,) = finder.find(image)
    finder.cut(image, face, 0.25, (50, 50))
    assert cv2.getNumThreads() == 3


def test_detection_runs_on_one_thread_of_opencv(three_threads: None) -> None:
    recorder = Recorder()
    FaceFinder(recorder, FaceSettings()).find(np.zeros((99, 99, 3), np.uint8))
    assert recorder.threads == [1]


def test_the_last_of_several_threads_restores_the_setting(three_threads: None) -> None:
    both_inside = Barrier(2)

    def detect(_: int) -> list[int]:
        seen = []
        for _ in range(50):
            with single_threaded():
                both_inside.wait(30)
                seen.append(cv2.getNumThreads())
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(detect, range(2))) == [[1] * 50] * 2
    assert cv2.getNumThreads() == 3


def test_a_setting_that_is_changed_meanwhile_is_kept(three_threads: None) -> None:
    with single_threaded():
        cv2.setNumThreads(2)
    assert cv2.getNumThreads() == 2


def test_the_setting_is_restored_after_an_error(three_threads: None) -> None:
    with pytest.raises(RuntimeError), single_threaded():
        raise RuntimeError
    assert cv2.getNumThreads() == 3
