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


def with_metadata(embedding: np.ndarray) -> bytes:
    """Return one vector with its metadata, as ``embedding_to_binary_with_metadata`` does."""
    return struct.pack("<I", len(embedding)) + embedding.dtype.name.encode() + embedding.tobytes()


def write_multiple(embeddings: list[np.ndarray]) -> bytes:
    """Return the layout of many, vector by vector, as ``write_multiple_embeddings`` does."""
    data = struct.pack("<I", len(embeddings))
    for embedding in embeddings:
        binary = with_metadata(embedding)
        data += struct.pack("<I", len(binary)) + binary
    return data


def read_multiple(data: bytes) -> list[np.ndarray]:
    """Return the vectors, one by one, each as ``read_binary_embedding`` does."""
    (count,) = struct.unpack_from("<I", data)
    position, found = 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, position)
        record = data[position + 4 : position + 4 + length]
        (size,) = struct.unpack_from("<I", record)
        found.append(np.frombuffer(record[11:], record[4:11].decode(), size))
        position += 4 + length
    return found


def main() -> None:
    """Write the files."""
    for dtype in ("float32", "float16"):
        found = vectors(dtype)
        single = found[0].tobytes()
        metadata = with_metadata(found[0])
        many = write_multiple(found)
        for name, data in (("single", single), ("metadata", metadata), ("many", many)):
            (FOLDER / f"{name}_{dtype}.bin").write_bytes(data)
        (FOLDER / f"single_{dtype}.bin.gz").write_bytes(gzip.compress(single, mtime=0))
        (FOLDER / f"many_{dtype}.bin.gz").write_bytes(gzip.compress(many, mtime=0))


if __name__ == "__main__":
    main()
