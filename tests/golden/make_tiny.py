"""Make the tiny golden shard and its annotated hex dump, which docs/format.md shows.

``python -m tests.golden.make_tiny`` from the project's root prints the dump of ``tiny.fid.gz`` and
makes the file where it is not there. Every member of it is stored, which version 1 allows and which
lets people read it; for the rest it is like the other golden shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from featureid.storage import gzip_members, layout
from featureid.storage.files import RangeReader
from featureid.storage.records import ModelInfo, SnapshotInfo
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import ShardEncoder, make_header
from featureid.storage.shard_reader import ShardMap

PATH = Path(__file__).parent / "tiny.fid.gz"
KEYS = ["a.jpg", "é.png"]
VECTORS = np.array([[0.6, -0.8], [1.0, 0.0]], "<f4")


def make() -> bytes:
    """Return the bytes of the shard."""
    model = ModelInfo("tiny", "01" * 4, "23" * 4, 2)
    info = SnapshotInfo("20261123T054231Z-3f9a1c", "2026-11-23T05:42:31Z", "me 1.0", model, 1)
    header = make_header(info, 0, 2, row_columns(model)[:2])
    encoder = ShardEncoder("tiny", header, [{"key": KEYS, "vector": VECTORS}])
    with mock.patch.object(gzip_members, "deflate", lambda data, **_: gzip_members.store(data)):
        return b"".join(encoder)


def parts(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the name, start and end of every part of a shard in file order, without gaps."""
    with RangeReader(str(path)) as source:
        shard = ShardMap(source)
        members = [("header", shard.index.header), *shard.members(), ("index", shard.index_member)]
    for name, member in members:
        if "block" not in name:
            name += " member"
        yield f"{name}: gzip header", member.offset, member.offset + 10
        yield f"{name}: header of a stored block", member.offset + 10, member.offset + 15
        yield f"{name}: payload", member.offset + 15, member.end - 8
        yield f"{name}: CRC-32 and length of the payload", member.end - 8, member.end
    end = path.stat().st_size
    start = end - layout.FOOTER_SIZE
    yield "footer member: gzip header", start, start + 10
    yield "footer member: header of a stored block", start + 10, start + 15
    start += 15
    for name, size in (
        ("mark", 8),
        ("version", 4),
        ("CRC-32 of the index member", 4),
        ("where the index member starts", 8),
        ("bytes of the index member", 8),
        ("bytes of its payload", 8),
        ("CRC-32 and length of the payload", 8),
    ):
        yield f"footer member: {name}", start, start + size
        start += size


def dump(path: Path) -> str:
    """Return the hex dump: for each part a line with its name, then its bytes, 16 a line."""
    data, lines = path.read_bytes(), []
    for name, start, end in parts(path):
        lines.append(f"# {name}")
        for at in range(start, end, 16):
            piece = data[at : min(at + 16, end)]
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
            lines.append(f"{at:04x}  {piece.hex(' '):<47}  {text}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if not PATH.exists():
        PATH.write_bytes(make())
    print(dump(PATH), end="")
