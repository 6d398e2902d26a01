"""What added models are made of: reductions, templates of faces, made-up images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import ModelError, UsageError
from featureid.images.align import similarity_transform
from featureid.images.dlib_faces import DLIBS_CROP
from featureid.models.building.face_template import arcface_crop, face_crop
from featureid.models.building.reductions import principal_components, projecting
from featureid.models.building.textures import textured_images


@given(st.integers(2, 12), st.integers(1, 11), st.integers(0, 2**32 - 1))
def test_principal_components_match_the_covariance(native: int, kept: int, seed: int) -> None:
    kept = min(kept, native - 1)
    rng = np.random.default_rng(seed)
    scale = 2.0 ** -np.arange(native)
    features = (rng.normal(size=(60, native)) * scale + 3).astype(np.float32)
    reduction = principal_components(features, kept)
    matrix = reduction.matrix.astype(np.float64)
    reduced = reduction.apply(features)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(kept), atol=1e-5)
    np.testing.assert_allclose(reduced.mean(axis=0), 0, atol=1e-5)
    variances = np.linalg.eigvalsh(np.cov(features.astype(np.float64).T))[::-1][:kept]
    np.testing.assert_allclose(reduced.astype(np.float64).var(0, ddof=1), variances, rtol=1e-3)
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(kept)] > 0).all()
    assert principal_components(features, kept) == reduction


def test_too_few_images_for_principal_components_are_refused() -> None:
    features = np.random.default_rng(3).normal(size=(8, 20)).astype(np.float32)
    with pytest.raises(UsageError, match=r"8 principal components need more than 8 images .* 8"):
        principal_components(features, 8)
    with pytest.raises(ModelError, match="vary in 7 directions only"):
        principal_components(np.repeat(features, 3, axis=0), 8)
    for dimension in (0, 20, 21):
        with pytest.raises(UsageError, match="leaves 1 to 19"):
            principal_components(features, dimension)
    with pytest.raises(UsageError, match="up to 1024 can be had"):
        projecting(65536, 4096)


def test_a_projection_is_that_of_the_known_model() -> None:
    from featureid.models import resolve_model

    assert projecting(1280, 128) == resolve_model("image").reduction


def test_arcface_is_insightfaces_template_in_our_coordinates() -> None:
    crop = face_crop("arcface112", (112, 112))
    assert crop == arcface_crop()
    assert crop.templates["yunet"][0] == (38.2946 + 0.5, 51.6963 + 0.5)
    # Landmarks of all kinds lie to each other as in dlib's crops.
    for kind, template in crop.templates.items():
        matrix = similarity_transform(DLIBS_CROP[kind], template)
        moved = np.array([matrix @ (*point, 1) for point in DLIBS_CROP[kind]])
        assert np.abs(moved - template).max() < 3
    scale = np.hypot(*similarity_transform(DLIBS_CROP["dlib"], crop.templates["dlib"])[:, 0])
    assert 0.6 < scale < 0.75
    with pytest.raises(UsageError, match="is arcface112, but the network takes 150 x 150"):
        face_crop("arcface112", (150, 150))


def test_templates_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "face.json"
    points = [[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]]
    path.write_text(json.dumps({"templates": {"yunet": points}, "margin": 0.2}))
    crop = face_crop(str(path), (48, 40))
    assert crop.templates == {"yunet": tuple(map(tuple, points))} and crop.margin == 0.2
    bad: list[tuple[Any, str]] = [
        ({"templates": {"yunet": [[50, 20], *points[1:]]}}, "a point of 'yunet' lies outside"),
        ({"templates": {"mtcnn": points}}, "no detector finds landmarks of the kind 'mtcnn'"),
        ({"templates": {"yunet": points[:1]}}, "must have 2 to 5 points"),
        ({"templates": {"yunet": [[1, 2, 3]]}}, "nor a file with templates: "),
        ({"templates": {}}, "has no templates"),
        ({"points": points}, "nor a file with templates: "),
        ([], "nor a file with templates: "),
    ]
    for content, message in bad:
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=message):
            face_crop(str(path), (48, 40))
    with pytest.raises(UsageError, match="neither arcface112 nor a file with templates: No such"):
        face_crop("arcface", (112, 112))


def test_made_up_images_are_always_the_same_and_all_different() -> None:
    images = textured_images(8, 40, 30)
    assert images.dtype == np.uint8 and images.shape == (8, 40, 30, 3)
    np.testing.assert_array_equal(images, textured_images(8, 40, 30))
    assert len({image.tobytes() for image in images}) == 8
    assert images.std(axis=(1, 2, 3)).min() > 15
    assert textured_images(2, 1, 1).shape == (2, 1, 1, 3)
