"""Damaged images for the fuzzer and for tests: the same bytes must give the same pixels."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np

from featureid.errors import ImageError
from featureid.images import DecodeLimits, decode_image
from tests.image_files import FILES

ODD = Path(__file__).parent / "odd_images" / "files"
#: Images of the fuzzer, by name.
IMAGES = {**FILES, **{path.name: path.read_bytes() for path in sorted(ODD.iterdir())}}
LIMITS = DecodeLimits(max_pixels=1 << 20)
#: CPU seconds that no image of these takes, whatever its damage.
MAX_SECONDS = 10


def dirty_memory(value: int) -> None:
    """Fill memory of many sizes with a value and free it, so that decoders get it next."""
    blocks = [np.full(1 << power, value, np.uint8) for power in range(6, 20) for _ in range(3)]
    del blocks


def outcome(data: bytes, dirt: int) -> tuple[str, bytes]:
    """Return the shape and the pixels, or the reason of a refusal."""
    dirty_memory(dirt)
    try:
        pixels = decode_image(data, limits=LIMITS).pixels
    except ImageError as error:
        return error.reason, b""
    return str(pixels.shape), pixels.tobytes()


def assert_same_twice(data: bytes) -> bool:
    """Decode a file twice, with other memory before; return whether it is accepted."""
    first, second = outcome(data, 0x55), outcome(data, 0xAA)
    assert first[0] == second[0]
    assert first == second
    return bool(first[1])


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with a few bits flipped, zeros or its end missing; seldom in its header."""
    out = bytearray(data)
    at = chance.randrange(len(out) // 8, len(out))
    kind = chance.randrange(4)
    if kind == 0:
        out[at:] = bytes(len(out) - at)
    elif kind == 1:
        del out[at : at + chance.choice((1, 2, 50))]
    else:
        for _ in range(chance.choice((1, 3, 9))):
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def damaged_image(chance: random.Random, _: Path) -> None:
    """A damaged image: refused, or decoded to the same pixels twice, and in bounded time."""
    data = damaged(IMAGES[chance.choice(sorted(IMAGES))], chance)
    start = time.process_time()
    accepted = assert_same_twice(data)
    assert time.process_time() - start < MAX_SECONDS
    if not accepted:
        raise ImageError("decode", "corrupt", "refused both times")
