"""Make the golden published files: ``python -m tests.golden.make_published`` from the root.

They are written as the published method writes them: with struct, tobytes and gzip, value by value,
and with nothing of featureid. They must be read, and written byte for byte, for ever.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent


def vectors(dtype: str) -> list[np.ndarray]:
    """Return three unit vectors of 128 numbers that are exact in both types."""
    found = []
    for number in range(3):
        vector = np.zeros(128, np.float32)
        vector[number * 7 : number * 7 + 16] = 0.25
        vector[number * 7 : number * 7 + 16 : 3] *= -1
        found.append(vector.astype(dtype))
    return found


def write_multiple(embeddings: list[np.ndarray]) -> bytes:
    """Return the layout of many, made vector by vector."""
    data = struct.pack("<I", len(embeddings))
    for embedding in embeddings:
        binary = embedding.tobytes()
        data += struct.pack("<I", len(binary)) + binary
    return data


def read_multiple(data: bytes, dtype: str) -> list[np.ndarray]:
    """Return the vectors, read one by one."""
    (count,) = struct.unpack_from("<I", data)
    position, found = 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, position)
        found.append(np.frombuffer(data[position + 4 : position + 4 + length], dtype))
        position += 4 + length
    return found


def main() -> None:
    """Write the files."""
    for dtype in ("float32", "float16"):
        found = vectors(dtype)
        single = found[0].tobytes()
        metadata = struct.pack("<I", len(found[0])) + dtype.encode() + single
        many = write_multiple(found)
        for name, data in (("single", single), ("metadata", metadata), ("many", many)):
            (FOLDER / f"{name}_{dtype}.bin").write_bytes(data)
        (FOLDER / f"single_{dtype}.bin.gz").write_bytes(gzip.compress(single, mtime=0))
        (FOLDER / f"many_{dtype}.bin.gz").write_bytes(gzip.compress(many, mtime=0))


if __name__ == "__main__":
    main()
