"""Fax compression, ITU-T T.4 (Group 3) and T.6 (Group 4), decoded strictly.

libtiff, through which Pillow decodes it, reports no damage and leaves rows that it does not find as
they were in memory: other pixels in each run, and bytes of other images.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.images.failures import corrupt, truncated, unsupported
from featureid.images.fax_codes import (
    HORIZONTAL,
    MODE_BITS,
    MODES,
    PASS,
    RUN_BITS,
    RUNS,
)

_STEP = 64
# Places of changes that are held as numbers.
_MAX_WAITING = 1 << 20
_EOL_ZEROS = 11
_EXTENSION = 1


@dataclass(frozen=True)
class FaxCoding:
    """How rows are coded.

    Attributes:
        group: 4 (T.6), 3 (T.4), or 2: the rows of T.4 without end-of-line codes, each in whole
            bytes.
        mixed: of group 3, whether rows may refer to the row above.
    """

    group: int
    mixed: bool = False


def decode_fax(data: bytes, width: int, height: int, coding: FaxCoding) -> npt.NDArray[np.uint8]:
    """Decode a compressed bilevel image.

    Args:
        data: the compressed bytes, most significant bit first.
        width: columns, at least 1.
        height: rows, at least 1.
        coding: how they are coded.

    Returns:
        uint8 (height, width), 0 for white and 1 for black.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``unsupported``.
    """
    changes, pixels = array("q"), np.zeros(width * height, np.uint8)
    for row, places in enumerate(_rows(_Bits(data), width, height, coding)):
        start = row * width
        changes.extend([start + place for place in places])
        if len(changes) > _MAX_WAITING or row == height - 1:
            pixels[np.frombuffer(changes, np.int64)] = 1
            changes = array("q")
    rows = pixels.reshape(height, width)
    return np.bitwise_xor.accumulate(rows, axis=1, out=rows)


class _Bits:
    """The bits of a strip.

    Attributes:
        position: the number of the next bit.
    """

    def __init__(self, data: bytes) -> None:
        padded = np.frombuffer(data + bytes(8), np.uint8).astype(np.uint32)
        words = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
        windows = np.empty((len(words), 8), np.uint16)
        for bit in range(8):
            windows[:, bit] = words >> (24 - RUN_BITS - bit) & (1 << RUN_BITS) - 1
        # The next bits at every bit: to cut them out one by one takes three times as long.
        self._windows = windows.ravel().data
        self.size = 8 * len(data)
        self.position = 0

    def peek(self) -> int:
        """Return the next 13 bits, zeros behind the end."""
        if self.position > self.size:
            raise truncated("the fax image")
        return self._windows[self.position]

    def bad(self) -> Exception:
        """Return the error for bits that are no code word."""
        if self.position + RUN_BITS > self.size:
            return truncated("the fax image")
        return corrupt("TIFF", "fax data")

    def run(self, color: int) -> int:
        """Read the length of a run, 0 for white and 1 for black."""
        total, table = 0, RUNS[color]
        while True:
            bits, length = table[self.peek()]
            if not bits:
                raise self.bad()
            self.position += bits
            total += length
            if length < _STEP:
                return total

    def skip_eol(self) -> bool:
        """Skip an end-of-line code with the fill bits before it; return whether there was one."""
        if self.peek() >> RUN_BITS - _EOL_ZEROS:
            return False
        while not (window := self.peek()):
            self.position += RUN_BITS
        self.position += RUN_BITS + 1 - window.bit_length()
        return True


def _rows(bits: _Bits, width: int, height: int, coding: FaxCoding) -> Iterator[list[int]]:
    """Yield for each row where its color changes, beginning with white."""
    above: list[int] = []
    for _ in range(height):
        two_dimensional = coding.group == 4
        if coding.group == 3:
            found = bits.skip_eol()
            if coding.mixed:
                if not found:
                    raise bits.bad()
                two_dimensional = not bits.peek() >> RUN_BITS - 1
                bits.position += 1
        row = _relative_row(bits, above, width) if two_dimensional else _row_of_runs(bits, width)
        if bits.position > bits.size:
            raise truncated("the fax image")
        if coding.group == 2:
            bits.position = -(-bits.position // 8) * 8
        above = _changes(row, width)
        yield above


def _row_of_runs(bits: _Bits, width: int) -> list[int]:
    row, place, color = [], 0, 0
    while place < width:
        place += bits.run(color)
        row.append(place)
        color = 1 - color
    if place > width:
        raise corrupt("TIFF", "a fax row of another length")
    return row


def _relative_row(bits: _Bits, above: list[int], width: int) -> list[int]:
    """Read a row that is coded by the changes of the one above (T.4, 4.2)."""
    reference = [*above, width, width, width]
    row, place, color, at = list[int](), -1, 0, 0
    while place < width:
        # `at` is the first change above, right of the place, from the color of the place.
        while reference[at] <= place and reference[at] < width:
            at += 2
        length, mode = MODES[bits.peek() >> RUN_BITS - MODE_BITS]
        if not length:
            if bits.peek() >> RUN_BITS - MODE_BITS == _EXTENSION:
                raise unsupported("TIFF", "uncompressed fax rows")
            raise bits.bad()
        bits.position += length
        if mode == PASS:
            place = reference[at + 1]
        elif mode == HORIZONTAL:
            middle = max(place, 0) + bits.run(color)
            place = middle + bits.run(1 - color)
            row += middle, place
        else:
            change = reference[at] + mode
            if change < max(place, 0):
                raise corrupt("TIFF", "a fax row that runs backward")
            row.append(change)
            place, color, at = change, 1 - color, at - 1 if at else 1
    if place > width:
        raise corrupt("TIFF", "a fax row of another length")
    return row


def _changes(row: list[int], width: int) -> list[int]:
    """Return the places where pixels differ: without runs of no length, and the end."""
    changes: list[int] = []
    for place in row:
        if changes and changes[-1] == place:
            changes.pop()
        elif place < width:
            changes.append(place)
    return changes
