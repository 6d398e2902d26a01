"""The configuration files of Hugging Face, open_clip and timm, and options over them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featureid.errors import UsageError
from featureid.images.resize import ResizePolicy
from featureid.models import Preprocessing
from featureid.models.building.preprocess_config import (
    PixelOptions,
    read_preprocess_config,
    scaled,
)
from featureid.models.preprocessing import PIXELS_REVISION

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]


def options(folder: Path, config: dict[str, Any]) -> PixelOptions:
    """Return what a configuration says."""
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return read_preprocess_config(path)


def hugging_face(**changes: Any) -> dict[str, Any]:
    """Return the configuration of CLIP, as Hugging Face writes it, with other fields."""
    return {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": CLIP_MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": CLIP_STD,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 224},
        **changes,
    }


def open_clip(**changes: Any) -> dict[str, Any]:
    """Return a configuration of open_clip, with other fields in ``preprocess_cfg``."""
    return {
        "model_cfg": {"embed_dim": 512, "vision_cfg": {"image_size": 224, "width": 768}},
        "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD, **changes},
    }


def timm(**changes: Any) -> dict[str, Any]:
    """Return a configuration of timm, with other fields in ``pretrained_cfg``."""
    fields = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9}
    fields |= {"crop_mode": "center", "mean": HALF, "std": HALF, "license": "apache-2.0"}
    return {"architecture": "vit_tiny", "num_classes": 0, "pretrained_cfg": {**fields, **changes}}


def test_the_three_libraries_say_the_same_of_clip(tmp_path: Path) -> None:
    found = options(tmp_path, hugging_face())
    assert found.preprocessing((224, 224), "float32", None) == Preprocessing(
        224,
        224,
        (122.7709383, 116.7460125, 104.09373615),
        (68.5005327, 66.6321579, 70.32316305),
        ResizePolicy("shortest", "bicubic"),
        PIXELS_REVISION,
    )
    same = {"crop_pct": 1.0, "mean": CLIP_MEAN, "std": CLIP_STD}
    for other in (open_clip(), timm(**same)):
        read = options(tmp_path, other).preprocessing((224, 224), "float32", None)
        assert read == found.preprocessing((224, 224), "float32", None)


@pytest.mark.parametrize(
    ("config", "size", "method", "fraction"),
    [
        (hugging_face(size={"shortest_edge": 256}), (224, 224), "shortest", 0.875),
        (hugging_face(size=224, crop_size=224), (224, 224), "shortest", 1.0),
        (hugging_face(size={"height": 224, "width": 224}), (224, 224), "stretch", None),
        (
            hugging_face(size={"height": 384, "width": 300}, do_center_crop=False),
            (384, 300),
            "stretch",
            None,
        ),
        (
            hugging_face(size=224, do_center_crop=False, image_processor_type="ViTImageProcessor"),
            (224, 224),
            "stretch",
            None,
        ),
        (hugging_face(do_center_crop=False, crop_pct=0.875), (224, 224), "shortest", 0.875),
        (
            hugging_face(do_center_crop=False, crop_pct=0.875, size={"shortest_edge": 384}),
            (384, 384),
            "stretch",
            None,
        ),
        (open_clip(resize_mode="squash"), (224, 224), "stretch", None),
        (open_clip(resize_mode="longest", fill_color=7), (224, 224), "pad", None),
        (open_clip(size=[256, 192]), (256, 192), "shortest", None),
        (open_clip(size=336), (336, 336), "shortest", None),
        (timm(), (224, 224), "shortest", 0.9),
        (timm(crop_mode="squash", crop_pct=1.0), (224, 224), "stretch", None),
        (timm(crop_mode="border", crop_pct=1), (224, 224), "pad", None),
    ],
)
def test_how_an_image_is_resized(
    config: dict[str, Any],
    size: tuple[int, int],
    method: str,
    fraction: float | None,
    tmp_path: Path,
) -> None:
    found = options(tmp_path, config)
    assert (found.size, found.resize, found.crop_fraction) == (size, method, fraction)
    if method == "pad" and "model_cfg" in config:
        assert found.fill == (7, 7, 7)
    assert found.preprocessing(size, "float32", None).resize.method == method


def test_how_pixels_are_scaled(tmp_path: Path) -> None:
    def found(**changes: Any) -> tuple[Any, ...]:
        read = options(tmp_path, hugging_face(**changes))
        return read.mean, read.std, read.channels, read.interpolation

    plain = {"image_mean": HALF, "image_std": HALF, "resample": 2}
    assert found(**plain) == ((127.5,) * 3, (127.5,) * 3, "rgb", "bilinear")
    assert found(**plain, rescale_factor=1 / 127.5)[:2] == ((63.75,) * 3, (63.75,) * 3)
    assert found(**plain, do_rescale=False)[:2] == ((0.5,) * 3, (0.5,) * 3)
    assert found(do_normalize=False)[:2] == ((0.0,) * 3, (255.0,) * 3)
    assert found(do_normalize=False, do_flip_channel_order=True)[2] == "bgr"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (hugging_face(do_pad=True), "do_pad is True, which featureid does not know"),
        (hugging_face(rescale_offset=True), "rescale_offset is True, which"),
        (hugging_face(resample=1), "resample is 1, which is neither 2"),
        (hugging_face(do_resize=False), "do_resize is False"),
        (hugging_face(size={"longest_edge": 224}), "size is {'longest_edge': 224}"),
        (hugging_face(do_center_crop=False), "size is .* gives images of different sizes"),
        (hugging_face(size={"shortest_edge": 200}), "crop_size is .* cannot be cut out of"),
        (hugging_face(size={"height": 256, "width": 256}), "crop_size is .* cannot be cut"),
        (hugging_face(size=224, image_processor_type="NewProcessor"), "size is 224, .* NewPro"),
        (hugging_face(image_mean=[0.5]), r"image_mean is \[0.5\]"),
        (hugging_face(image_std=None), "image_mean is .* must be given with image_std"),
        (hugging_face(rescale_factor="1/255"), "rescale_factor is '1/255'"),
        (hugging_face(do_flip_channel_order=True), "do_flip_channel_order is True"),
        (open_clip(mode="L"), "preprocess_cfg.mode is 'L'"),
        (open_clip(resize_mode="fit"), "preprocess_cfg.resize_mode is 'fit'"),
        (open_clip(interpolation="random"), "preprocess_cfg.interpolation is 'random'"),
        (open_clip(fill_color=300), "preprocess_cfg.fill_color is 300"),
        (open_clip(size=[224]), r"preprocess_cfg.size is \[224\]"),
        (timm(input_size=[1, 28, 28]), r"pretrained_cfg.input_size is \[1, 28, 28\]"),
        (timm(crop_mode="squash"), "pretrained_cfg.crop_pct is 0.9, .* 'squash'"),
        (timm(crop_mode="tile"), "pretrained_cfg.crop_mode is 'tile'"),
        (timm(mean=["a", 0, 0]), "pretrained_cfg.mean is "),
        (timm(std=0.5), "pretrained_cfg.std is 0.5"),
        ({"pretrained_cfg": 3}, "pretrained_cfg is 3"),
        ({"size": 224}, "neither a preprocessor_config.json of Hugging Face, nor"),
    ],
)
def test_what_cannot_be_done_is_named(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"config\.json: .*{message}"):
        options(tmp_path, config)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1")
    for path in (tmp_path / "a.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match=r"cannot be read: .* \(`preprocess`\)"):
            read_preprocess_config(path)


def test_options_come_before_a_file(tmp_path: Path) -> None:
    found = options(tmp_path, timm())
    assert PixelOptions(mean=(1, 2, 3)).over(found).mean == (1, 2, 3)
    assert PixelOptions(size=(9, 8)).over(found).crop_fraction == 0.9
    assert PixelOptions(resize="shortest").over(found).crop_fraction == 0.9
    # What belongs to another way to resize goes with it.
    stretched = PixelOptions(resize="stretch").over(found)
    assert (stretched.resize, stretched.crop_fraction) == ("stretch", None)
    assert stretched.preprocessing((9, 8), "float32", None).height == 9


def test_the_same_numbers_in_other_units_are_the_same_model() -> None:
    assert scaled((0.485, 0.456, 0.406), 1 / 255) == (123.675, 116.28, 103.53)
    assert scaled((123.675, 116.28, 103.53), 1) == (123.675, 116.28, 103.53)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": (1.0, 0.0, 255.0)}, "`std` is 0.00392157,0,1; it must be positive"),
        ({"crop_fraction": 2.0}, "`crop_fraction` is 2; it must be above 0 and at most 1"),
        ({"resize": "pad", "crop_fraction": 0.9}, "belongs to"),
        ({"mean": None}, "nothing says how pixels are scaled; give `preprocess` or `mean` and"),
    ],
)
def test_wrong_options_are_named(changes: dict[str, Any], message: str) -> None:
    good = PixelOptions(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    with pytest.raises(UsageError, match=message):
        replace(good, **changes).preprocessing((8, 8), "float32", None)


def test_a_network_of_uint8_scales_itself() -> None:
    assert PixelOptions().preprocessing((8, 8), "uint8", None).std == (1.0, 1.0, 1.0)
    with pytest.raises(UsageError, match="takes uint8 pixels and scales them itself; leave out"):
        PixelOptions(std=(1.0, 1.0, 1.0)).preprocessing((8, 8), "uint8", None)
