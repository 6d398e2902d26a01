"""Make the golden shards: ``python -m tests.golden.make_golden`` from the project's root.

They were made once, at the first release of format version 1, and must decode for ever. Do not make
them again to get a test to pass: a change of what they decode to is a change of the format.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from featureid.storage import layout
from featureid.storage.records import EmbeddingRow, ModelInfo, SnapshotInfo
from featureid.storage.shard import ShardEncoder, make_header, row_blocks

SIZES = (0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0)
KEYS = ("", "2026/a.jpg", "2026/b c.jpg", "Zürich/é.png", "中文/图.webp", "🙂.gif", "~last")


def golden_row(number: int, key: str) -> EmbeddingRow:
    """Return a row of exact binary fractions: eight numbers whose squares add up to 1."""
    signs = [1 - 2 * (number * 37 >> bit & 1) for bit in range(8)]
    vector = np.array([s * x for s, x in zip(signs, SIZES, strict=True)])
    return EmbeddingRow(
        key,
        np.roll(vector, number).astype(np.float32),
        hashlib.sha256(key.encode()).digest(),
        number << 33,
        f'"etag-{number}"' if number % 2 else "",
        640 + number,
        480 - number,
    )


def main() -> None:
    """Write the shards and, as JSON, what they hold."""
    rows = sorted((golden_row(n, key) for n, key in enumerate(KEYS)), key=lambda row: row.key)
    for dtype in ("float32", "float16"):
        model = ModelInfo("golden", "0123456789abcdef" * 4, "fedcba9876543210" * 4, 8, dtype)
        info = SnapshotInfo(
            "20261123T054231Z-3f9a1c", "2026-11-23T05:42:31Z", "featureid golden", model, 1
        )
        header = make_header(info, 0, len(rows))
        data = b"".join(ShardEncoder("golden", header, row_blocks(rows, info, block_rows=3)))
        wanted = {
            "header": layout.header_payload(header).decode(),
            "key": [row.key for row in rows],
            "vector": [row.vector.astype(dtype).tobytes().hex() for row in rows],
            "sha256": [row.sha256.hex() for row in rows],
            "source_size": [row.source_size for row in rows],
            "source_version": [row.source_version for row in rows],
            "width": [row.width for row in rows],
            "height": [row.height for row in rows],
        }
        folder = Path(__file__).parent
        (folder / f"{dtype}.fid.gz").write_bytes(data)
        text = json.dumps(wanted, ensure_ascii=False, indent=1)
        (folder / f"{dtype}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
