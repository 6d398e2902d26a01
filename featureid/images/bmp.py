"""BMP files that Pillow decodes wrongly, rewritten."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.images.failures import check_pixels, corrupt, truncated, unsupported

# Offsets in a file whose header is one of BITMAPINFOHEADER or longer (BITMAPV4HEADER and so on).
_PIXEL_OFFSET, _HEADER_SIZE, _SIZE, _BITS, _COMPRESSION, _COLORS = 10, 14, 18, 28, 30, 46
_INFO_HEADER = 40
_UNCOMPRESSED, _RLE8, _RLE4 = 0, 1, 2
# Bytes whose commands are decoded at a time: at most two million pixels.
_WINDOW = 1 << 14
_LEFT_OUT = "pixels left out by its compression"
_Pixels = npt.NDArray[np.uint8]
_END_OF_LINE, _END_OF_IMAGE, _DELTA = 0, 1, 2


def decodable_bmp(data: bytes, max_pixels: int) -> bytes:
    """Return a BMP file in a form that Pillow decodes correctly.

    Args:
        data: a file that begins with ``BM`` and a known size of its header.
        max_pixels: the limit for the pixels of the image.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    if len(data) < _HEADER_SIZE + _INFO_HEADER or _number(data, _HEADER_SIZE) < _INFO_HEADER:
        return data
    compression, (bits,) = _number(data, _COMPRESSION), struct.unpack_from("<H", data, _BITS)
    if (compression, bits) in ((_RLE8, 8), (_RLE4, 4)):
        data, bits = _without_run_lengths(data, bits, max_pixels), 8
    if bits in (4, 8) and _number(data, _COLORS) == 2:
        # Pillow takes a table of black and white for an image of 1 bit per pixel. Declare a third
        # color, which no pixel has.
        return data[:_COLORS] + b"\3" + data[_COLORS + 1 :]
    return data


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _without_run_lengths(data: bytes, bits: int, max_pixels: int) -> bytes:
    """Return an uncompressed BMP of 8 bits per pixel, made from a run-length encoded one.

    Pillow reads one byte too few of an odd number of 4-bit pixels, and lets rows move if one is
    empty.
    """
    width, height = struct.unpack_from("<ii", data, _SIZE)
    start = _number(data, _PIXEL_OFFSET)
    if height < 0:
        raise unsupported("BMP", "compressed rows from top to bottom")
    if width < 1 or not height or start < _HEADER_SIZE + _INFO_HEADER:
        raise corrupt("BMP", f"{width} x {height} compressed pixels at byte {start}")
    check_pixels(width, height, max_pixels)
    pixels = _decoded_runs(data[start:], bits, width, height)
    rows = np.zeros((height, -(-width // 4) * 4), np.uint8)
    rows[:, :width] = pixels
    header = bytearray(data[:start])
    struct.pack_into("<HI", header, _BITS, 8, _UNCOMPRESSED)
    struct.pack_into("<I", header, _COLORS, _number(data, _COLORS) or 1 << bits)
    return b"".join((header, rows.data))


def _decoded_runs(data: bytes, bits: int, width: int, height: int) -> _Pixels:
    """Return uint8 (height, width), the color of each pixel, from the bottom row to the top one."""
    pixels = np.empty(width * height, np.uint8)
    written = column = row = 0
    for places in _commands(data, bits):
        commands = _Commands.read(data, places, column, row)
        lengths = commands.lengths_within(width, height)
        ends = written + lengths.cumsum()
        misplaced = commands.rows * width + commands.columns + lengths != ends
        if (misplaced & (lengths > 0)).any():
            raise unsupported("BMP", _LEFT_OUT)
        end = int(ends[-1])
        pixels[written:end] = commands.colors(data, bits, lengths)
        written, column, row = end, commands.next_column, commands.next_row
        if written == len(pixels):
            return pixels.reshape(height, width)
        if row >= height:
            break
    raise unsupported("BMP", _LEFT_OUT)


def _commands(data: bytes, bits: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield where each command begins, up to the end of the image, some thousands at a time.

    Raises:
        ImageError: ``truncated``, after what there is.
    """
    codes, at = np.frombuffer(data, np.uint8), 0
    sizes = _escape_sizes(bits)
    for start in range(0, len(codes) - 1, _WINDOW):
        first = codes[start : min(start + _WINDOW, len(codes) - 1)]
        second = codes[start + 1 : start + 1 + len(first)]
        steps, end = np.where(first > 0, 2, sizes[second]), start + len(first)
        # Runs of a single pixel, one after the other, would take a step of Python each.
        runs = steps[at - start :: 2] == 2
        count = len(runs) if runs.all() else int(runs.argmin())
        places = [*range(at, at + 2 * count, 2)]
        at += 2 * count
        rest = steps.tolist() if at < end else []
        while at < end:
            step = rest[at - start]
            if not step or (
                at + step > len(codes)
                and at + step - _has_padding(codes[at : at + 2], bits) > len(codes)
            ):
                break
            places.append(at)
            at += step
        if places:
            yield np.array(places)
        if at < end:
            if not step:
                return
            break
    raise truncated("the BMP image")


def _escape_sizes(bits: int) -> npt.NDArray[np.int64]:
    """Return the bytes of a command that begins with 0, by its second byte; 0 for the end."""
    literal = 2 + (np.arange(256) * bits + 15) // 16 * 2
    literal[[_END_OF_LINE, _END_OF_IMAGE, _DELTA]] = 2, 0, 4
    return literal


def _has_padding(command: _Pixels, bits: int) -> bool:
    """Return whether a command ends with a byte that only fills it up, and may be missing."""
    return command[0] == 0 and command[1] > _DELTA and (int(command[1]) * bits + 7) // 8 % 2 == 1


@dataclass(frozen=True, eq=False)
class _Commands:
    """Some commands of a run-length encoding, in their order; arrays of int64 or bool.

    Attributes:
        places: where each begins.
        literal: whether it lists its colors; otherwise it repeats one, or two of 4 bits.
        lengths: how many pixels it draws, before cutting.
        columns: where it begins to draw.
        rows: where it draws, from below.
        next_column: where drawing goes on behind them.
        next_row: the same for rows.
    """

    places: npt.NDArray[np.int64]
    literal: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    next_column: int
    next_row: int

    @classmethod
    def read(cls, data: bytes, places: npt.NDArray[np.int64], column: int, row: int) -> _Commands:
        """Read commands, the first of which begins to draw at a column and row."""
        codes = np.frombuffer(data, np.uint8)
        first, second = codes[places].astype(np.int64), codes[places + 1].astype(np.int64)
        literal = (first == 0) & (second > _DELTA)
        is_line, is_delta = first + second == _END_OF_LINE, (first == 0) & (second == _DELTA)
        lengths = np.where(literal, second, first)
        moves = codes[np.where(is_delta, places, -4)[:, None] + (2, 3)].astype(np.int64)
        moves[~is_delta] = 0
        passed = column + np.append(0, (lengths + moves[:, 0]).cumsum())
        # What was passed before the current row began.
        begun = np.maximum.accumulate(np.append(0, np.where(is_line, passed[:-1], 0)))
        rows = row + np.append(0, (is_line + moves[:, 1]).cumsum())
        columns = passed - begun
        return cls(
            places, literal, lengths, columns[:-1], rows[:-1], int(columns[-1]), int(rows[-1])
        )

    def lengths_within(self, width: int, height: int) -> npt.NDArray[np.int64]:
        """Return how many pixels each draws in an image: runs beyond their rows are cut."""
        cut = np.minimum(self.lengths, width - self.columns).clip(0)
        return np.where(self.rows < height, cut, 0)

    def colors(self, data: bytes, bits: int, lengths: npt.NDArray[np.int64]) -> _Pixels:
        """Return the colors of the first `lengths` pixels of each."""
        codes = np.frombuffer(data, np.uint8)
        number = np.arange(lengths.sum()) - (lengths.cumsum() - lengths).repeat(lengths)
        places = (self.places + 1 + self.literal).repeat(lengths)
        literal = self.literal.repeat(lengths)
        if bits == 8:
            return np.asarray(codes[places + number * literal])
        pairs = codes[places + number // 2 * literal]
        return np.asarray(np.where(number % 2 == 0, pairs >> 4, pairs & 15))
