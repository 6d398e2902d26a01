"""The functions for Python programs: the pipeline's numbers, from whatever an image is given as."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import featureid
from featureid import library
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import ImageError, UsageError
from featureid.images.face_finder import FaceSettings
from featureid.library import ImageLike
from featureid.models import ModelBundle
from tests.face_images import astronaut


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def png(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(pixels).save(path)
    return path


def test_every_kind_of_image_gives_the_same_numbers(pixels: np.ndarray, png: Path) -> None:
    expected = featureid.generate_feature_id(png)
    assert expected.shape == (128,) and expected.dtype == np.float32
    assert np.linalg.norm(expected) == pytest.approx(1, abs=1e-6)
    strided = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    for image in (
        str(png),
        png.read_bytes(),
        pixels,
        strided,
        Image.fromarray(pixels),
        Image.open(png),
    ):
        np.testing.assert_array_equal(featureid.generate_feature_id(image), expected)


def test_gray_pixels_are_those_of_a_gray_file(pixels: np.ndarray) -> None:
    gray = pixels[:, :, 0]
    expected = featureid.generate_feature_id(encoded(Image.fromarray(gray), "PNG"))
    np.testing.assert_array_equal(featureid.generate_feature_id(gray), expected)
    np.testing.assert_array_equal(featureid.generate_feature_id(Image.fromarray(gray)), expected)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_the_orientation_of_a_pillow_image_is_applied(
    pixels: np.ndarray, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(pixels), kind, exif=exif, **options)
    expected = featureid.generate_feature_id(data)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(featureid.generate_feature_id(opened), expected)
    upright = ImageOps.exif_transpose(opened)
    np.testing.assert_array_equal(featureid.generate_feature_id(upright), expected)
    np.testing.assert_array_equal(featureid.generate_feature_id(np.asarray(upright)), expected)
    assert expected @ featureid.generate_feature_id(pixels) < 0.9999


@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_pillow_images_of_every_mode_are_those_of_a_file(pixels: np.ndarray, mode: str) -> None:
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    elif mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(pixels[:, :, 1]))
    image = image.convert(mode)
    assert image.mode == mode
    expected = featureid.generate_feature_id(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    np.testing.assert_array_equal(featureid.generate_feature_id(image), expected)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "array of float32; give uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\); give \(height, width, 3\) RGB or"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (Image.new("RGB", (0, 5)), "0 x 5 pixels; it is empty"),
        (7, "bytes, NumPy array or Pillow image, not as int"),
        (None, "not as NoneType"),
    ],
)
def test_what_is_not_an_image_is_refused(image: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        featureid.generate_feature_id(image)


def test_errors_name_the_image_and_the_reason(png: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.jpg"
    with pytest.raises(ImageError, match=f"^{missing}: no such file") as caught:
        featureid.generate_feature_id(missing)
    assert (caught.value.stage, caught.value.reason) == ("read", "not-found")
    with pytest.raises(ImageError, match="looks like text"):
        featureid.generate_feature_id(b"not an image")
    cut = Image.open(io.BytesIO(png.read_bytes()[:5000]))
    with pytest.raises(ImageError) as caught:
        featureid.generate_feature_id(cut)
    assert (caught.value.stage, caught.value.reason) == ("decode", "truncated")
    with pytest.raises(UsageError, match="unknown model 'imagine'"):
        featureid.generate_feature_id(png, model="imagine")


def test_many_images_are_rows_in_their_order(pixels: np.ndarray, png: Path) -> None:
    rolled = [np.roll(pixels, n, axis=0) for n in range(20)]
    images: list[ImageLike] = [*rolled, png, png.read_bytes()]
    expected = [featureid.generate_feature_id(image) for image in images]
    for threads in (0, 1, 3):
        found = featureid.embed_images(images, threads=threads)
        assert found.dtype == np.float32 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(featureid.embed_images(np.stack(rolled[:3])), expected[:3])
    assert featureid.embed_images([]).shape == (0, 128)


def test_many_images_are_taken_as_they_are_needed(pixels: np.ndarray, tmp_path: Path) -> None:
    taken = []

    def images() -> Iterator[np.ndarray | Path]:
        for number in range(200):
            taken.append(number)
            yield tmp_path / "none.jpg" if number == 3 else pixels

    with pytest.raises(ImageError, match=r"^image 3 \(.*none.jpg\): no such file") as caught:
        featureid.embed_images(images(), threads=1)
    assert caught.value.reason == "not-found" and len(taken) < 50


def test_the_bad_one_of_many_images_is_named(pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"^image 1: ") as caught:
        featureid.embed_images([pixels, b"", pixels])
    assert caught.value.reason == "empty"
    with pytest.raises(UsageError, match=r"^image 2: .*float64"):
        featureid.embed_images([pixels, pixels, pixels / 255])  # type: ignore[list-item]


@pytest.mark.parametrize("one", ["a.jpg", Path("a.jpg"), b"abc", np.zeros((5, 5, 3), np.uint8)])
def test_one_image_is_not_taken_for_many(one: object) -> None:
    with pytest.raises(UsageError, match="give a list"):
        featureid.embed_images(one)  # type: ignore[arg-type]


def test_faces_come_with_their_vectors() -> None:
    image = astronaut()
    found = featureid.embed_faces(image, faces=FaceSettings("all", "haar"))
    assert found and all(vector.shape == (128,) for _, vector in found)
    assert [face.index for face, _ in found] == list(range(len(found)))
    settings = FaceSettings("largest", "haar")
    ((face, vector),) = featureid.embed_faces(image, faces=settings)
    assert face.index == 0 and face.box[2] > face.box[0]
    np.testing.assert_array_equal(featureid.generate_feature_id(image, "face", settings), vector)
    np.testing.assert_array_equal(featureid.embed_images([image], "face", settings), [vector])


def test_no_face_and_wrong_choices_are_errors(pixels: np.ndarray) -> None:
    with pytest.raises(ImageError) as caught:
        featureid.embed_faces(np.zeros((64, 64, 3), np.uint8))
    assert (caught.value.stage, caught.value.reason) == ("detect", "no-face")
    with pytest.raises(UsageError, match="use embed_faces"):
        featureid.generate_feature_id(pixels, "face", "all")
    with pytest.raises(UsageError, match="use embed_faces"):
        featureid.embed_images([pixels], "face", "all")
    with pytest.raises(UsageError, match="whole images"):
        featureid.embed_faces(pixels, model="image")
    with pytest.raises(UsageError, match="`faces` is 'best'"):
        featureid.embed_faces(pixels, faces="best")  # type: ignore[arg-type]


def test_threads_that_come_at_once_load_a_model_once(
    pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    library._loaded.cache_clear()
    loaded = []

    def load(bundle: ModelBundle, settings: EmbedSettings) -> Embedder:
        loaded.append(bundle)
        return Embedder(bundle, settings)

    monkeypatch.setattr(library, "Embedder", load)
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(featureid.generate_feature_id(pixels)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1 and len(found) == 8
    assert all(np.array_equal(vector, found[0]) for vector in found)


def test_the_public_names_are_exactly_those_documented() -> None:
    public = {
        name
        for name, value in vars(featureid).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(featureid.__all__) - {"__version__"}
    for name in public:
        assert getattr(featureid, name).__doc__, name
        assert name in featureid.__doc__, name


def test_errors_travel_between_processes(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        featureid.generate_feature_id(tmp_path / "none.jpg")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
