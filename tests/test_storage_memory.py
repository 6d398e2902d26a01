"""Wrong lengths take no memory: each file is read in a separate process, which is measured."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featureid.storage import gzip_members as gm
from featureid.storage import layout
from tests.storage_samples import encode, make_info, make_row

ROOT = Path(__file__).parents[1]
LIMIT_MB = 40

READ = """
import resource, sys
from pathlib import Path
from featureid.errors import CorruptFileError
from featureid.storage import ingest
from tests.storage_samples import read_all

def peak():
    # Not ru_maxrss, which on Linux starts with that of the process that called fork.
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20

path, before = sys.argv[1], peak()
try:
    if path.endswith(".fid.gz"):
        read_all(Path(path))
    else:
        ingest.read_vectors(path)
except CorruptFileError:
    print(peak() - before)
"""


def forged_shards() -> dict[str, bytes]:
    data = encode([make_row(f"{n}", 64) for n in range(300)], make_info(1, 64))
    at = len(data) - layout.FOOTER_SIZE
    index = layout.parse_footer(data[at:], len(data))
    fields = json.loads(gm.unpack(data[index.offset : index.end], index.raw_length))

    def signed(fields: dict[str, Any]) -> bytes:
        payload = json.dumps(fields).encode()
        member = layout.pack_text(payload)
        entry = layout.Member(index.offset, len(member), len(payload), gm.member_crc(member))
        return data[: index.offset] + member + layout.footer_member(entry)

    forged = {}
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "rows": lambda block: block.update(rows=10**9),
        "keys": lambda block: block["columns"][0][0].__setitem__(1, 10**10),
        "plane": lambda block: block["columns"][1][3].__setitem__(1, 10**10),
        "length": lambda block: block["columns"][1][3].__setitem__(0, 10**10),
    }
    for name, change in changes.items():
        copy = json.loads(json.dumps(fields))
        change(copy["blocks"][0])
        forged[name] = signed(copy)
    entry = layout.Member(index.offset, index.length, 10**12, index.crc)
    forged["index"] = data[:at] + layout.footer_member(entry)
    return forged


FILES = {
    **{f"{name}.fid.gz": data for name, data in forged_shards().items()},
    "count.bin": struct.pack("<II", 0xFFFFFFFF, 512) + bytes(512),
    "length.bin": struct.pack("<II", 1, 0xFFFFFFFC) + bytes(512),
    "bomb.bin.gz": gzip.compress(struct.pack("<II", 10**6, 512) + bytes(60 * 10**6)),
    "shape.npy": b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 128), }".ljust(117)
    + b"\n"
    + bytes(512),
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_length_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < LIMIT_MB  # nothing printed: the file was not refused
