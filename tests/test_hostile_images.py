"""Small files that ask for much work: refused before it, or decoded by linear work.

No time is asserted: where work was quadratic, these files are so large that it would take
minutes, as anybody who waits for the test would see; `tests.fuzz` reports slow pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featureid.errors import ImageError
from featureid.images import decode_image
from featureid.images.gif import first_gif_frame
from tests.image_files import FILES, encode, png_chunk
from tests.test_tiff import page

GIF, JPEG, PNG = FILES["gif"], FILES["jpeg"], FILES["png"]
GIF_BLOCKS = 13 + (3 << (GIF[10] & 7) + 1)
SCAN = JPEG.index(b"\xff\xda") + 14


def gif_with(extension: bytes) -> bytes:
    """Return a GIF file with an extension before its first frame."""
    return GIF[:GIF_BLOCKS] + extension + GIF[GIF_BLOCKS:]


def many_scans() -> bytes:
    """Return a JPEG file of 12 megapixels and some KB that has 490 scans."""
    data = encode(Image.new("L", (4000, 3000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 480 + data[-2:]


def many_strips(count: int, **tags: Any) -> bytes:
    """Return a TIFF file of one column, with a strip for each row, all at the same place."""
    places = {"STRIP_OFFSETS": [8] * count, "STRIP_COUNTS": [2] * count}
    return page(HEIGHT=[count], WIDTH=[1], ROWS_PER_STRIP=[1], **places, **tags)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "GIF comments": (lambda: gif_with(b"!\xfe" + (b"\xff" + b"x" * 255) * 32_000 + b"\0"), ""),
    "GIF comments of one byte": (lambda: gif_with(b"!\xfe" + b"\1x" * 500_000 + b"\0"), ""),
    "GIF extensions": (lambda: gif_with(b"!\xfe\0" * 1_100_000), "corrupt"),
    "JPEG scans": (many_scans, "unsupported"),
    "JPEG segments": (lambda: JPEG[:2] + b"\xff\xfe\0\2" * 100_000 + JPEG[2:], "corrupt"),
    "JPEG fill bytes": (lambda: JPEG[:2] + b"\xff" * 2_000_000 + JPEG[2:], ""),
    "JPEG markers": (lambda: JPEG[:2] + b"\xff\xd0" * 1_000_000 + JPEG[2:], ""),
    "JPEG zeros": (
        lambda: (
            JPEG[:SCAN]
            + b"\1\xff\xd0\2\xff\xd1\3\xff\xd2\0\xff\xd3"
            + bytes(2_000_000)
            + JPEG[SCAN:]
        ),
        "truncated",
    ),
    "PNG chunks": (lambda: PNG[:33] + png_chunk(b"tEXt", b"") * 200_000 + PNG[33:], "corrupt"),
    "TIFF strips": (lambda: many_strips(1_500_000), "unsupported"),
    "TIFF strips at one place": (lambda: many_strips(200_000), "unsupported"),
    "TIFF strips, compressed": (lambda: many_strips(100_000, COMPRESSION=[32773]), ""),
    "TIFF strips, all of the file": (
        lambda: page(
            HEIGHT=[6000],
            WIDTH=[1],
            ROWS_PER_STRIP=[1],
            COMPRESSION=[8],
            STRIP_OFFSETS=[8] * 6000,
            STRIP_COUNTS=[20_000] * 6000,
        ),
        "corrupt",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_or_read(name: str) -> None:
    make, reason = HOSTILE[name]
    try:
        decode_image(make())
        found = ""
    except ImageError as error:
        found = error.reason
    assert found == reason


def test_comments_of_a_gif_do_not_reach_pillow() -> None:
    data = gif_with(b"!\xfe" + b"\1x" * 1000 + b"\0")
    assert first_gif_frame(data, len(data)).data == first_gif_frame(GIF, len(data)).data


def test_uncompressed_strips_that_follow_each_other_are_taken_for_one() -> None:
    rows = 300_000
    offsets = [*range(8, 8 + rows)]
    data = page(
        HEIGHT=[rows], WIDTH=[1], ROWS_PER_STRIP=[1], STRIP_OFFSETS=offsets, STRIP_COUNTS=[1] * rows
    )
    pixels = decode_image(data).pixels
    np.testing.assert_array_equal(pixels[:, 0, 0], np.frombuffer(data, np.uint8, rows, 8))
