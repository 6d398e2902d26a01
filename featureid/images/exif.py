"""The orientation of an image, read from EXIF without Pillow.

Pillow's reader warns about damaged EXIF, and Python's warning filters are not thread-safe.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

_ORIENTATION_TAG = 0x0112
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I"}


def exif_orientation(exif: bytes) -> int:
    r"""Return the EXIF orientation, 1 to 8.

    Args:
        exif: an EXIF block, with or without the leading ``Exif\0\0``, whose last byte may differ.

    Returns:
        1 (upright) if the block is damaged or has no orientation: bad metadata must not fail an
        image.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0") else exif
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, ifd)
        for at in range(ifd + 2, ifd + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == _ORIENTATION_TAG and kind in _INTEGER_TYPES:
                (value,) = struct.unpack_from(order + _INTEGER_TYPES[kind], tiff, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return uint8 (h, w, 3) `pixels` turned upright, C-contiguous; `orientation` is 1 to 8."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the transposition of 5 to 8, mirroring of axes remains.
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
