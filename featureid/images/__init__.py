"""From the bytes of an image file to upright RGB pixels of the size a model wants."""

from __future__ import annotations

from featureid.images.decode import DecodedImage, DecodeLimits, decode_image
from featureid.images.resize import resize_image

__all__ = ["DecodeLimits", "DecodedImage", "decode_image", "resize_image"]
