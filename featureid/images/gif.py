"""The first frame of GIF files, checked before Pillow sees it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from featureid.images.failures import check_pixels, corrupt, truncated

_EXTENSION, _GRAPHIC_CONTROL, _IMAGE = 0x21, 0xF9, 0x2C
# The largest image, incompressible, has 400,000.
_MAX_BLOCKS = 1 << 20


@dataclass(frozen=True)
class GifFrame:
    """The first frame of a GIF file.

    Attributes:
        data: a GIF file of this frame alone, without a canvas around it, and without the
            extensions that do not decide how it looks.
        left: column of the canvas at which it belongs.
        top: row of the canvas at which it belongs.
        canvas: (width, height) of the canvas.
    """

    data: bytes
    left: int
    top: int
    canvas: tuple[int, int]


def first_gif_frame(data: bytes, max_pixels: int) -> GifFrame:
    """Return the first frame of a GIF file, checked to be complete.

    Comments do not reach Pillow, which takes quadratic time for them.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    try:
        screen, canvas = 13 + _color_table_size(data[10]), struct.unpack_from("<HH", data, 6)
        position, control, blocks = screen, b"", _MAX_BLOCKS
        while data[position] == _EXTENSION:
            start = position
            position, blocks = _end_of_blocks(data, start + 2, blocks - 1)
            if data[start + 1] == _GRAPHIC_CONTROL:
                control = data[start:position]
        if data[position] != _IMAGE:
            raise corrupt("GIF", f"block {data[position]:#x} where an image should be")
        left, top, width, height, flags = struct.unpack_from("<4HB", data, position + 1)
        end, _ = _end_of_blocks(data, position + 11 + _color_table_size(flags), blocks)
    except (IndexError, struct.error) as error:
        raise truncated("the first GIF frame") from error
    # A frame may lie outside its canvas; browsers then enlarge the canvas.
    size = max(canvas[0], left + width), max(canvas[1], top + height)
    check_pixels(*size, max_pixels)
    own_size = struct.pack("<HH", width, height)
    head = data[:6] + own_size + data[10:screen] + control
    image = b",\0\0\0\0" + own_size + data[position + 9 : end]
    return GifFrame(head + image + b";", left, top, size)


def _color_table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: bytes, position: int, most: int) -> tuple[int, int]:
    """Return where a chain of sub-blocks ends, and `most` less their number.

    Raises:
        IndexError: the data ends before.
        ImageError: ``corrupt``: there are more than `most`.
    """
    while size := data[position]:
        position += 1 + size
        most -= 1
        if most < 0:
            raise corrupt("GIF", f"more than {_MAX_BLOCKS:,} blocks")
    return position + 1, most
