"""How an image is prepared for a network, as given by options or by the files people have.

These are the ``preprocessor_config.json`` of Hugging Face, the ``open_clip_config.json`` of
open_clip and the ``config.json`` of timm.  What such a file says and featureid cannot do is an
error, since a network that is given other pixels than in training is silently worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from featureid.errors import UsageError
from featureid.images.resize import Interpolation, ResizeMethod, ResizePolicy
from featureid.models.preprocessing import (
    PIXELS_REVISION,
    Channels,
    FaceCrop,
    Preprocessing,
)
from featureid.regular_files import read_regular
from featureid.stored_json import decode_json

Triple = tuple[float, float, float]

_MAX_BYTES = 1 << 20
_OPEN_CLIP_METHODS: Mapping[str, ResizeMethod] = {
    "shortest": "shortest",
    "squash": "stretch",
    "longest": "pad",
}
_TIMM_METHODS: Mapping[str, ResizeMethod] = {
    "center": "shortest",
    "squash": "stretch",
    "border": "pad",
}
# Hugging Face processors for which a size of one number means a square, not the shorter side.
_SQUARE = ("ViT", "Beit", "BEiT", "DeiT")
_SHORTEST = ("CLIP", "ChineseCLIP", "ConvNext", "Levit", "Bit", "MobileNet", "Poolformer")
_CONVNEXT_LARGE = 384
# What does not change the pixels, or says which class reads the file.
_HF_IGNORED = {
    "crop_pct", "crop_size", "data_format", "default_to_square", "device", "disable_grouping",
    "do_center_crop", "do_convert_rgb", "do_flip_channel_order", "do_normalize", "do_rescale",
    "do_resize", "feature_extractor_type", "image_mean", "image_processor_type", "image_std",
    "input_data_format", "processor_class", "resample", "rescale_factor", "return_tensors", "size",
    "size_divisor", "transformers_version", "_processor_class", "_valid_processor_keys",
    "pad_size", "image_seq_length", "model_input_names", "auto_map",
}  # fmt: skip


@dataclass(frozen=True)
class PixelOptions:
    """What is said of how an image is prepared; None where nothing is said.

    Attributes:
        size: (height, width) of the network's input.
        resize: how an image becomes one of that size.
        crop_fraction: of ``shortest``.
        interpolation: of pixels.
        mean: subtracted from red, green and blue values from 0 to 255.
        std: what the differences are divided by.
        channels: their order in the input.
        fill: of ``pad``.
    """

    size: tuple[int, int] | None = None
    resize: ResizeMethod | None = None
    crop_fraction: float | None = None
    interpolation: Interpolation | None = None
    mean: Triple | None = None
    std: Triple | None = None
    channels: Channels | None = None
    fill: tuple[int, int, int] | None = None

    def over(self, other: PixelOptions) -> PixelOptions:
        """Return these options, and ``other`` where they say nothing.

        What belongs to another way to resize is dropped with it.
        """
        if self.resize not in (None, other.resize):
            other = replace(other, crop_fraction=None, fill=None)
        given = {
            item.name: value
            for item in fields(self)
            if (value := getattr(self, item.name)) is not None
        }
        return replace(other, **given)

    def preprocessing(
        self, size: tuple[int, int], dtype: str, face: FaceCrop | None
    ) -> Preprocessing:
        """Return the preprocessing of a network.

        Args:
            size: (height, width) of its input.
            dtype: of its input.
            face: how faces are cropped, for a model of faces.

        Raises:
            UsageError: the options do not say how pixels are scaled, or contradict each other or
                the network.
        """
        if dtype == "uint8":
            if self.mean or self.std:
                raise UsageError(
                    "the network takes uint8 pixels and scales them itself; leave out `mean` and "
                    "`std`"
                )
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        elif self.mean is None or self.std is None:
            raise UsageError(
                "nothing says how pixels are scaled; give `preprocess` or `mean` and `std` "
                "(0 and 1 for pixels from 0 to 1; 0 and 1/255 for pixels from 0 to 255)"
            )
        else:
            mean, std = self.mean, self.std
            if min(std) <= 0:
                raise UsageError(f"`std` is {_unscaled(std)}; it must be positive")
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"`crop_fraction` is {self.crop_fraction:g}; it must be above 0 and at most 1"
            )
        try:
            policy = ResizePolicy(
                self.resize or "stretch",
                self.interpolation or "bicubic",
                1.0 if self.crop_fraction is None else self.crop_fraction,
                self.fill or (0, 0, 0),
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        return Preprocessing(
            *size, mean, std, policy, PIXELS_REVISION, self.channels or "rgb", face
        )


def _unscaled(values: Triple) -> str:
    return ",".join(f"{value / 255:g}" for value in values)


def scaled(values: Triple, unit: float) -> Triple:
    """Return values in units of pixels from 0 to 255.

    Args:
        values: red, green and blue.
        unit: what a pixel of 1 is in their unit, 1 / 255 for pixels from 0 to 1.
    """
    # Rounded, so that the same numbers, written in another unit, are the same model.
    red, green, blue = (float(f"{value / unit:.12g}") for value in values)
    return red, green, blue


def read_preprocess_config(path: Path) -> PixelOptions:
    """Return what a configuration file says of how an image is prepared.

    Args:
        path: ``preprocessor_config.json``, ``open_clip_config.json``, or timm's ``config.json``.

    Raises:
        UsageError: it cannot be read, is of another kind, or asks for what featureid cannot do.
    """
    try:
        config = decode_json(read_regular(path, _MAX_BYTES), dict[str, Any])
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: cannot be read: {cause} (`preprocess`)") from error
    for key, read in (
        ("preprocess_cfg", _open_clip),
        ("pretrained_cfg", _timm),
        ("image_processor_type", _hugging_face),
        ("feature_extractor_type", _hugging_face),
        ("image_mean", _hugging_face),
    ):
        if key in config:
            try:
                return read(_Fields(config))
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from error
    raise UsageError(
        f"{path}: neither a preprocessor_config.json of Hugging Face, nor an "
        "open_clip_config.json, nor a config.json of timm (`preprocess`)"
    )


class _Fields:
    """The fields of a JSON object; errors name them."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def __iter__(self) -> Any:
        return iter(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value; null is as good as absent."""
        value = self._values.get(name)
        return default if value is None else value

    def inside(self, name: str) -> _Fields:
        """Return the fields of an object in this one, none if it is absent."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name)
        return _Fields(value, f"{self._prefix}{name}.")

    def wrong(self, name: str, why: str = "cannot be used") -> UsageError:
        """Return the error that a field has a value that cannot be used."""
        return UsageError(
            f"{self._prefix}{name} is {self._values.get(name)!r}, which {why}; say with options "
            "how images are prepared, and leave out `preprocess`"
        )

    def number(self, name: str, default: float | None = None) -> float:
        """Return a positive number."""
        value = self.get(name, default)
        if type(value) not in (int, float) or not 0 < value < 1e6:
            raise self.wrong(name)
        return float(value)

    def side(self, name: str) -> int:
        """Return a number of pixels."""
        value = self.number(name)
        if value != int(value):
            raise self.wrong(name)
        return int(value)

    def triple(self, name: str, default: Triple) -> Triple:
        """Return three numbers: red, green, blue."""
        value = self.get(name, list(default))
        numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
        if not numbers or len(value) != 3:
            raise self.wrong(name)
        red, green, blue = map(float, value)
        return red, green, blue

    def method(self, name: str, default: str, known: Mapping[str, ResizeMethod]) -> ResizeMethod:
        """Return the way to resize that a name stands for."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise self.wrong(name)
        return known[value]

    def interpolation(self, name: str) -> Interpolation:
        """Return the name of an interpolation."""
        value = self.get(name, "bicubic")
        if value not in ("bicubic", "bilinear"):
            raise self.wrong(name)
        return "bicubic" if value == "bicubic" else "bilinear"


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def _open_clip(config: _Fields) -> PixelOptions:
    found = config.inside("preprocess_cfg")
    size = _open_clip_size(config, found)
    if found.get("mode", "RGB") != "RGB":
        raise found.wrong("mode")
    method = found.method("resize_mode", "shortest", _OPEN_CLIP_METHODS)
    fill = found.get("fill_color", 0)
    fills = fill if isinstance(fill, list) else [fill] * 3
    if len(fills) != 3 or not all(type(one) is int and 0 <= one <= 255 for one in fills):
        raise found.wrong("fill_color")
    return PixelOptions(
        size=size,
        resize=method,
        interpolation=found.interpolation("interpolation"),
        mean=scaled(found.triple("mean", _CLIP_MEAN), 1 / 255),
        std=scaled(found.triple("std", _CLIP_STD), 1 / 255),
        fill=(fills[0], fills[1], fills[2]) if method == "pad" else None,
    )


def _open_clip_size(config: _Fields, found: _Fields) -> tuple[int, int] | None:
    for fields_, name in (
        (found, "size"),
        (config.inside("model_cfg").inside("vision_cfg"), "image_size"),
    ):
        value = fields_.get(name)
        if isinstance(value, list):
            if len(value) != 2 or not all(type(one) is int and one > 0 for one in value):
                raise fields_.wrong(name)
            return value[0], value[1]
        if value is not None:
            side = fields_.side(name)
            return side, side
    return None


def _timm(config: _Fields) -> PixelOptions:
    found = config.inside("pretrained_cfg")
    size = found.get("input_size")
    if size is not None and (
        not isinstance(size, list) or len(size) != 3 or size[0] != 3
        or not all(type(one) is int and one > 0 for one in size)
    ):  # fmt: skip
        raise found.wrong("input_size")
    fraction = found.number("crop_pct", 0.875)
    method = found.method("crop_mode", "center", _TIMM_METHODS)
    if fraction > 1 or (fraction < 1 and method != "shortest"):
        raise found.wrong("crop_pct", f"cannot be used with crop_mode {found.get('crop_mode')!r}")
    return PixelOptions(
        size=(size[1], size[2]) if size else None,
        resize=method,
        crop_fraction=fraction if method == "shortest" else None,
        interpolation=found.interpolation("interpolation"),
        mean=scaled(found.triple("mean", _IMAGENET_MEAN), 1 / 255),
        std=scaled(found.triple("std", _IMAGENET_STD), 1 / 255),
    )


def _hugging_face(config: _Fields) -> PixelOptions:
    for name in config:
        if name not in _HF_IGNORED and config.get(name, False) is not False:
            raise config.wrong(name, "featureid does not know")
    if config.get("do_resize", True) is not True:
        raise config.wrong("do_resize")
    unit = config.number("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if config.get("do_normalize", True):
        if config.get("image_mean") is None or config.get("image_std") is None:
            raise config.wrong("image_mean", "must be given with image_std")
        mean = config.triple("image_mean", mean)
        std = config.triple("image_std", std)
    resample = config.get("resample", 2)  # Pillow's numbers
    if resample not in (2, 3):
        raise config.wrong("resample", "is neither 2 (bilinear) nor 3 (bicubic)")
    flipped = bool(config.get("do_flip_channel_order", False))
    if flipped and len({*mean, *std}) > 2:
        raise config.wrong("do_flip_channel_order", "is not known together with image_mean")
    options = PixelOptions(
        interpolation="bilinear" if resample == 2 else "bicubic",
        mean=scaled(mean, unit),
        std=scaled(std, unit),
        channels="bgr" if flipped else "rgb",
    )
    return _hugging_face_size(config).over(options)


def _hugging_face_size(config: _Fields) -> PixelOptions:
    height, width, shortest = _sides(config, "size", square=None)
    if config.get("do_center_crop", False):
        crop_height, crop_width, _ = _sides(config, "crop_size", square=True)
        if shortest and crop_height == crop_width and crop_height <= shortest:
            fraction = crop_height / shortest
            return PixelOptions((crop_height, crop_width), "shortest", fraction)
        if (height, width) != (crop_height, crop_width):
            raise config.wrong("crop_size", f"cannot be cut out of {config.get('size')}")
    elif shortest:
        # ConvNeXt resizes to more, and cuts out the center; a large input it stretches.
        if config.get("crop_pct") is None:
            raise config.wrong("size", "gives images of different sizes")
        fraction = config.number("crop_pct")
        if shortest >= _CONVNEXT_LARGE:
            return PixelOptions((shortest, shortest), "stretch")
        return PixelOptions((shortest, shortest), "shortest", fraction)
    return PixelOptions((height, width), "stretch")


def _sides(config: _Fields, name: str, square: bool | None) -> tuple[int, int, int]:
    """Return height and width, or zeros and the length of the shorter side."""
    value = config.get(name)
    if isinstance(value, dict):
        found = config.inside(name)
        keys = {key for key in found if found.get(key) is not None}
        if keys == {"shortest_edge"}:
            return 0, 0, found.side("shortest_edge")
        if keys == {"height", "width"}:
            return found.side("height"), found.side("width"), 0
        raise config.wrong(name)
    side = config.side(name)
    if square is None:
        kind = config.get("image_processor_type") or config.get("feature_extractor_type") or ""
        square = str(kind).startswith(_SQUARE)
        if not square and not str(kind).startswith(_SHORTEST):
            raise config.wrong(name, f"means different things, and not known for {kind or 'it'}")
    return (side, side, 0) if square else (0, 0, side)
