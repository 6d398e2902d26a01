"""The same bytes give the same pixels, whatever was in memory before."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.fuzz_images import ODD, assert_same_twice, damaged, dirty_memory, outcome
from tests.image_files import FILES, PHOTO, encode
from tests.test_fax import CODINGS, drawn, fax_tiff


@pytest.mark.parametrize("file", sorted(path.name for path in ODD.iterdir()))
def test_an_odd_file_is_the_same_twice(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, chance = (ODD / file).read_bytes(), random.Random(file)
    assert_same_twice(data)
    for _ in range(12):
        assert_same_twice(damaged(data, chance))
    capfd.readouterr()  # libtiff writes its errors to the standard error stream


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_the_same_twice(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(name)
    for _ in range(30):
        assert_same_twice(damaged(FILES[name], chance))
    capfd.readouterr()


@pytest.mark.parametrize(("compression", "options"), CODINGS)
def test_a_damaged_fax_is_the_same_twice(compression: str, options: int) -> None:
    data, chance = fax_tiff(drawn(3, 900, 120, 0.02), compression, options), random.Random(options)
    for _ in range(20):
        assert_same_twice(damaged(data, chance))


@pytest.mark.parametrize("missing", [1, 30, 90])
def test_a_jpeg_strip_of_fewer_rows_is_refused(missing: int) -> None:
    image = PHOTO.resize((160, 120))
    data = encode(image, "TIFF", compression="jpeg", tiffinfo={278: 120})
    frame = data.index(b"\xff\xc0")
    assert data[frame + 5 : frame + 7] == (120).to_bytes(2, "big")
    fewer = data[: frame + 5] + (120 - missing).to_bytes(2, "big") + data[frame + 7 :]
    assert_same_twice(fewer)
    assert outcome(fewer, 0)[0] == "corrupt"


def test_memory_is_dirtied() -> None:
    # What the tests above rest on: a decoder that leaves its memory as it was shows the dirt.
    for value in (0x55, 0xAA):
        dirty_memory(value)
        found = [np.empty(1 << power, np.uint8) for power in range(8, 17)]
        assert any((block[64:-64] == value).all() for block in found)
