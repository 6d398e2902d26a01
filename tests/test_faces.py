"""Faces in real photos: what is found, which of it is taken, and what is stored."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import featureid
from featureid.cli import main as cli
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import BundleError, ImageError, UsageError
from featureid.face_crops import cut_faces, finder_for, locate_faces, open_face_finder
from featureid.images import (
    DecodedImage,
    FaceSettings,
    decode_image,
)
from featureid.images.face import DetectedFace
from featureid.images.face_finder import choose_faces
from featureid.inputs import ImageRef
from featureid.models import resolve_model
from featureid.models.bundle import content_digest
from featureid.storage.reader import Snapshot
from featureid.storage.records import WHOLE_IMAGE, ModelInfo
from featureid.storage.verify import verify_snapshot
from featureid.transforms.embed import _Embed
from tests.face_images import (
    FACE,
    astronaut,
    group,
    rotated_by_exif,
    without_face,
    write_images,
)

INSTALLED = ("dlib", "blazeface", "haar")
SIDES = st.floats(1, 300)
A_FACE = st.builds(
    lambda x, y, w, h: DetectedFace((x, y, x + w, y + h), (), 1.0),
    st.floats(-50, 900),
    st.floats(-50, 900),
    SIDES,
    SIDES,
)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_images(folder)
    return folder


@pytest.fixture(scope="session")
def snap(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """All faces of all images, embedded by the real command."""
    output = tmp_path_factory.mktemp("out")
    argv = ["embed", image_folder, "--output", output, "--strip-prefix", f"{image_folder}/"]
    argv += ["--model", "face", "--faces", "all", "--detector", "dlib", "--log-level", "error"]
    assert cli.main([str(word) for word in argv]) == 0
    return featureid.open_snapshot(str(output))


def decoded(image: Image.Image) -> DecodedImage:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return decode_image(buffer.getvalue())


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    left, top = np.maximum(a[:2], b[:2])
    right, bottom = np.minimum(a[2:], b[2:])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b))


# What the pipeline makes of every kind of image


def test_every_image_has_the_right_rows_or_the_right_failure(snap: Snapshot) -> None:
    rows = {key: len(vectors) for key, vectors in snap.items()}
    expected = {"one.png": 1, "gray.png": 1, "several.png": 3, "wide.jpg": 1, "cut.png": 1}
    assert rows == expected | {"upright.jpg": 1, "exif6.jpg": 1, "exif8.jpg": 1}
    failures = {failure.key: failure for failure in snap.failures()}
    assert set(failures) == {"none.png", "tiny.png"}
    for failure in failures.values():
        assert (failure.stage, failure.reason) == ("detect", "no-face")
    assert "600 x 400 pixels" in failures["none.png"].message
    assert snap.manifest.counts.images == 10 and snap.manifest.counts.embedded == 8
    assert verify_snapshot(snap.folder).ok


def test_faces_are_numbered_from_left_to_right(snap: Snapshot) -> None:
    faces = [face for face, _ in snap.faces("several.png")]
    assert [face.index for face in faces] == [0, 1, 2]
    middles = [(face.box[0] + face.box[2]) / 2 for face in faces]
    assert middles == sorted(middles)
    for face, (left, top, side) in zip(
        faces, [(30, 20, 300), (380, 60, 260), (700, 40, 220)], strict=True
    ):
        scale = side / 220
        x, y = left - 110 * scale, top
        wanted = (
            x + FACE[0] * scale,
            y + FACE[1] * scale,
            x + FACE[2] * scale,
            y + FACE[3] * scale,
        )
        assert overlap(face.box, wanted) > 0.5


def test_the_same_face_has_the_same_vector_wherever_it_is(snap: Snapshot) -> None:
    wanted = snap["one.png"]
    assert distance(snap["wide.jpg"], wanted) < 0.1
    assert distance(snap["gray.png"], wanted) < 0.2
    assert distance(snap["cut.png"], wanted) < 0.3
    for _, vector in snap.faces("several.png"):
        assert distance(vector, wanted) < 0.25


@pytest.mark.parametrize("name", ["exif6.jpg", "exif8.jpg"])
def test_an_image_turned_by_exif_gives_the_same_face(snap: Snapshot, name: str) -> None:
    assert distance(snap[name], snap["upright.jpg"]) < 0.05
    ((face, _),), ((upright, _),) = snap.faces(name), snap.faces("upright.jpg")
    np.testing.assert_allclose(face.box, upright.box, atol=3)
    np.testing.assert_allclose(face.landmarks, upright.landmarks, atol=3)


def test_places_are_those_of_the_upright_original(snap: Snapshot) -> None:
    ((face, _),) = snap.faces("one.png")
    assert overlap(face.box, FACE) > 0.6
    right_outer, right_inner, left_outer, left_inner, nose = face.landmarks
    assert left_outer[0] < left_inner[0] < nose[0] < right_inner[0] < right_outer[0]
    assert all(abs(y - 101) < 8 for _, y in face.landmarks[:4]) and nose[1] > 115
    assert face.score > 0.5
    widths = dict(zip(snap.row_keys(), np.asarray(snap.column("width")).tolist(), strict=True))
    ((wide, _),) = snap.faces("wide.jpg")
    assert widths["wide.jpg"] == 6000
    wanted = [n * 4 + shift for n, shift in zip(FACE, (3800, 700, 3800, 700), strict=True)]
    assert overlap(wide.box, wanted) > 0.6


def test_a_face_cut_by_the_border_keeps_its_box(snap: Snapshot) -> None:
    ((face, _),) = snap.faces("cut.png")
    assert face.box[0] < 0 < face.box[2]


def test_one_image_alone_gives_the_pipelines_numbers(image_folder: Path, snap: Snapshot) -> None:
    found = featureid.embed_faces(image_folder / "several.png", faces=FaceSettings("all", "dlib"))
    assert [face.index for face, _ in found] == [0, 1, 2]
    np.testing.assert_array_equal([vector for _, vector in found], snap["several.png"])
    one = featureid.generate_feature_id(
        image_folder / "one.png", "face", FaceSettings("largest", "dlib")
    )
    np.testing.assert_array_equal([one], snap["one.png"])


def test_a_snapshot_says_how_its_faces_were_found(snap: Snapshot) -> None:
    assert snap.model.name == "face"
    assert snap.model.faces == "dlib all min-face=20 no-face=skip"


# Policies


@given(st.lists(A_FACE, max_size=6), st.tuples(st.floats(0, 900), st.floats(0, 900)))
def test_choices(faces: list[DetectedFace], middle: tuple[float, float]) -> None:
    def center_of(face: DetectedFace) -> tuple[float, float]:
        left, top, right, bottom = face.box
        return (left + right) / 2, (top + bottom) / 2

    everyone = choose_faces(faces, "all", middle)
    assert sorted(map(repr, everyone)) == sorted(map(repr, faces))
    assert [center_of(face)[0] for face in everyone] == sorted(center_of(face)[0] for face in faces)
    assert choose_faces(faces[::-1], "all", middle) == everyone
    largest, central = (choose_faces(faces, choice, middle) for choice in ("largest", "center"))
    assert len(largest) == len(central) == min(1, len(faces))
    for face in faces:
        left, top, right, bottom = largest[0].box
        assert (right - left) * (bottom - top) >= np.prod(np.subtract(face.box[2:], face.box[:2]))
        assert np.hypot(*np.subtract(center_of(central[0]), middle)) <= np.hypot(
            *np.subtract(center_of(face), middle)
        )
    if len(faces) > 1:
        with pytest.raises(ImageError, match=f"{len(faces)} faces were found") as caught:
            choose_faces(faces, "require-one", middle)
        assert (caught.value.stage, caught.value.reason) == ("detect", "several-faces")
    else:
        assert choose_faces(faces, "require-one", middle) == faces


# For blazeface the faces of so wide an image are too small.
@pytest.mark.parametrize("detector", [name for name in INSTALLED if name != "blazeface"])
def test_policies_on_a_real_group(detector: str) -> None:
    image = decoded(group((30, 20, 300), (400, 60, 220), (700, 40, 260)))

    def lefts(**changes: Any) -> list[int]:
        settings = replace(FaceSettings("all", detector), **changes)
        return [
            round(face.box[0]) // 300 for face in locate_faces(image, open_face_finder(settings))
        ]

    everyone = locate_faces(image, open_face_finder(FaceSettings("all", detector)))
    assert lefts() == [0, 1, 2]
    assert lefts(choose="largest") == [0]
    assert lefts(choose="center") == [1]
    smallest = min(face.box[2] - face.box[0] for face in everyone)
    assert len(lefts(min_face=int(smallest) + 2)) < 3
    assert lefts(min_face=300) == []
    with pytest.raises(ImageError, match="3 faces were found"):
        lefts(choose="require-one")


def test_min_face_counts_pixels_of_the_original() -> None:
    image = decoded(group((30, 20, 300)))
    claimed = replace(image, width=image.width * 4, height=image.height * 4)
    finder = open_face_finder(FaceSettings(detector="haar", min_face=300))
    assert locate_faces(image, finder) == []
    (face,) = locate_faces(claimed, finder)
    assert face.box[2] - face.box[0] > 300


def test_without_a_face_the_whole_image_may_be_taken() -> None:
    preprocessing = resolve_model("face").preprocessing
    image = decoded(without_face())
    finder = finder_for(preprocessing, FaceSettings(no_face="whole"))
    assert finder
    ((face, pixels),) = cut_faces(image, finder, preprocessing)
    assert (face.index, face.box) == (WHOLE_IMAGE, (0, 0, 600, 400))
    wanted = without_face().resize((150, 150), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pixels, np.array(wanted))
    ((face, _),) = cut_faces(decoded(astronaut()), finder, preprocessing)
    assert face.index == 0


def test_everything_that_changes_a_face_changes_the_digest() -> None:
    bundle = resolve_model("face")
    base = FaceSettings(detector="dlib")
    changes: list[dict[str, Any]] = [
        {},
        {"align": False},
        {"detector": "haar"},
        {"no_face": "whole"},
    ]
    digests = set()
    for change in changes:
        embedder = Embedder(bundle, EmbedSettings(threads=1, faces=replace(base, **change)))
        digests.add(embedder.info.preprocessing_digest)
        embedder.close()
    assert len(digests) == 4 and bundle.preprocessing.digest not in digests
    finder = open_face_finder(replace(base, choose="all", min_face=90))
    assert bundle.preprocessing.digest_with(finder.digested) in digests


def test_faces_without_landmarks_are_cut_by_their_box() -> None:
    preprocessing = resolve_model("face").preprocessing
    image = decoded(astronaut())
    cuts = []
    for settings in (FaceSettings(detector="haar"), FaceSettings(detector="dlib", align=False)):
        finder = open_face_finder(settings)
        ((face, pixels),) = cut_faces(image, finder, preprocessing)
        wanted = astronaut().resize((150, 150), Image.Resampling.BILINEAR, box=face.box)
        assert np.abs(pixels.astype(int) - np.array(wanted)).mean() < 4
        cuts.append(pixels)
    assert not np.array_equal(cuts[0], cuts[1])


def test_a_worker_that_would_find_other_faces_stops() -> None:
    bundle = resolve_model("face")
    settings = EmbedSettings(threads=1, faces=FaceSettings(detector="haar"))
    finder = open_face_finder(FaceSettings(detector="haar"))
    wanted = bundle.preprocessing.digest_with(finder.digested)
    info = ModelInfo("face", bundle.digest, wanted, bundle.dimension)
    _Embed("face", content_digest(bundle), info, settings, "run").setup()
    other = replace(info, preprocessing_digest=bundle.preprocessing.digest)
    with pytest.raises(BundleError, match="its detector differs"):
        _Embed("face", content_digest(bundle), other, settings, "run").setup()


def test_a_model_of_whole_images_takes_no_faces(image_folder: Path) -> None:
    with pytest.raises(UsageError, match="takes whole images, not faces; choose `model='face'`"):
        featureid.generate_feature_id(image_folder / "one.png", faces="largest")


# Commands


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_compare_distinguishes_the_same_from_another(
    image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = (image_folder / "one.png", image_folder / "gray.png")
    status, out, _ = run(capsys, "compare", *same, "--model", "face", "--json")
    found = json.loads(out)
    assert status == 0 and found["cosine"] > 0.98 and found["distance"] < 0.2
    assert found["distance"] == pytest.approx((2 - 2 * found["cosine"]) ** 0.5, abs=1e-3)
    status, out, _ = run(capsys, "compare", image_folder / "one.png", image_folder / "none.png")
    assert status == 0
    assert re.match(r"cosine 0\.\d{4}, angle \d+\.\d°, distance \d\.\d{4}\n", out)


def test_compare_says_what_strangers_score_where_that_is_known(
    image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = (image_folder / "one.png", image_folder / "one.png", "--model", "face")
    for detector, known in {"dlib": True, "blazeface": True, "haar": False}.items():
        _, out, _ = run(capsys, "compare", *same, "--detector", detector, "--json")
        found = json.loads(out)
        assert found.get("verdict") == ("same" if known else None)
        if known:
            percentiles = found["calibration"]["different_percentiles"]
            assert percentiles == pytest.approx({"50": 0.835, "99": 0.907}, abs=1e-3)
    _, out, _ = run(capsys, "compare", *same)
    assert out.splitlines()[0] == "cosine 1.0000, angle 0.0°, distance 0.0000"
    assert "different people is 0.834 in the median, and above 0.907 for 1 %" in out
    assert "same: 0.93 or more; of pairs of different images or people 0.0563 % (0.046" in out
    assert "this rests on face with dlib on LFW: measured on the 4992 photos of View 1" in out


def test_compare_without_a_face_is_one_line(
    image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("compare", image_folder / "one.png", image_folder / "none.png", "--model", "face")
    status, out, err = run(capsys, *argv)
    assert (status, out) == (1, "") and err.count("\n") == 1 and "no face of 20 or more" in err
    status, out, err = run(capsys, *argv, "--faces", "all")
    assert (status, out) == (1, "") and err.count("\n") == 1 and "no face of 20 or more" in err
    status, _, err = run(capsys, *argv, "--min-face", "0")
    assert status == 2 and "0 pixels" in err


def test_faces_are_listed_and_drawn(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "annotated.png"
    argv = ("faces", image_folder / "several.png", "--detector", "dlib", "--output", output)
    status, out, _ = run(capsys, *argv, "--json")
    found = json.loads(out)
    assert status == 0 and (found["width"], found["height"]) == (1000, 400)
    assert [face["index"] for face in found["found"]] == [0, 1, 2]
    before = np.array(Image.open(image_folder / "several.png"), int)
    drawn = np.array(Image.open(output), int)
    changed = np.abs(drawn - before).max(axis=2) > 0
    for face in found["found"]:
        left, top, right, bottom = (round(edge) for edge in face["box"])
        assert changed[top, left : right - 1].all() and changed[top : bottom - 1, left].all()
        x, y = (int(n) for n in face["landmarks"][4])
        assert changed[y, x]
    assert changed.mean() < 0.05
    status, out, _ = run(capsys, *argv[:4], "--faces", "largest")
    assert out.startswith("1 faces (dlib largest") and out.count("\n") == 2


def test_faces_refuses_what_it_cannot_draw(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "faces", image_folder / "one.png", "--output", tmp_path / "a.txt")
    assert status == 2 and "must end in one of .png" in err
    assert run(capsys, "faces", tmp_path / "nowhere.png")[0] == 1
    assert list(tmp_path.iterdir()) == []


def test_embed_refuses_faces_for_whole_images(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("embed", image_folder, "--output", tmp_path / "out")
    for options, said in [
        (("--faces", "all"), "choose --model=face"),
        (("--model", "face", "--detector", "mtcnn"), "invalid choice: 'mtcnn'"),
        (("--model", "face", "--min-face", "-1"), "-1 pixels"),
        (("--model", "face", "--detector-model", "a.onnx"), "give --detector=yunet"),
    ]:
        status, _, err = run(capsys, *argv, *options)
        assert status == 2 and said in err, err
    assert not (tmp_path / "out").exists()


def test_threads_and_batches_change_no_face(image_folder: Path) -> None:
    refs = [ImageRef(path.name, str(path)) for path in sorted(image_folder.glob("*.png"))]
    found = []
    for threads, parts in [(1, [refs]), (3, [[ref] for ref in refs])]:
        embedder = Embedder(
            resolve_model("face"), EmbedSettings(threads=threads, faces=FaceSettings("all"))
        )
        futures = [embedder.submit(part) for part in parts]
        results = [row for future in futures for image in future.result() for row in image]
        embedder.close()
        found.append(sorted(results, key=lambda result: (result.key, getattr(result, "order", ()))))
    for a, b in zip(*found, strict=True):
        assert type(a) is type(b) and a.key == b.key
        if hasattr(a, "vector"):
            assert a.face == b.face
            np.testing.assert_array_equal(a.vector, b.vector)
        else:
            assert a == b


def test_an_image_that_rotated_by_exif_writes_is_decoded_upright(
    tmp_path: Path,
) -> None:
    rotated_by_exif(astronaut(), tmp_path / "a.jpg", 6)
    image = decode_image((tmp_path / "a.jpg").read_bytes())
    assert np.abs(image.pixels.astype(int) - np.array(astronaut())).mean() < 4
