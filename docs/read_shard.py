"""Read a feature-ID shard: ``python read_shard.py FILE`` prints what it holds.

Written from format.md alone, with nothing but the standard library and NumPy. It reads a whole
shard and checks its checksums; chapters 4 and 5 tell how to read less and what else to check.
"""

import json
import struct
import sys
import zlib

import numpy as np

TYPES = {"uint8": "u1", "int32": "<i4", "int64": "<i8", "float16": "<f2", "float32": "<f4"}
START = bytes.fromhex("1f8b08000000000000ff")  # of every member


def unpack(data, start, group):
    """Return the payloads of a group of members [length, raw length, crc] and where it ends."""
    if sum(raw for _, raw, _ in group) > 8 * sum(length for length, _, _ in group):
        raise ValueError("a group claims to inflate more than 8 times")
    payloads = []
    for length, raw, crc in group:
        member = data[start : start + length]
        found = zlib.crc32(member[:-8], zlib.crc32(member[-8:]))  # the trailer first
        if len(member) != length or found != crc or member[:10] != START:
            raise ValueError(f"the member at byte {start} is damaged")
        inflater = zlib.decompressobj(-15)
        payloads.append(inflater.decompress(member[10:-8], raw + 1))  # never more than it may be
        if len(payloads[-1]) != raw or not inflater.eof or inflater.unused_data:
            raise ValueError(f"the member at byte {start} has not the length that it should have")
        start += length
    return payloads, start


def values(spec, rows, payloads):
    """Return one block of a column: texts, an array, or None for each value of an unknown kind."""
    if spec["type"] == "utf8":
        ends = (4 * rows + np.cumsum(np.frombuffer(payloads[0], "<u4", rows), dtype="u8")).tolist()
        if ends[-1] != len(payloads[0]):
            raise ValueError("the lengths of the texts do not add up")
        return [payloads[0][a:b].decode() for a, b in zip([4 * rows, *ends[:-1]], ends)]  # noqa: B905
    shape, encoding = spec.get("shape", []), spec.get("encoding", "plain")
    if spec["type"] not in TYPES or encoding not in ("plain", "planes"):
        return [None] * rows
    planes = [np.frombuffer(payload, "u1") for payload in payloads]
    if encoding == "planes":  # the last byte of every value is in two halves
        *planes, lower, upper = planes
        second = lower & 0x78 | upper & 0x87
        last = np.append(lower & 0x87 | upper & 0x78, second << 4 | second >> 4)
        planes.append(last[: rows * int(np.prod(shape, dtype=int))])
    return np.stack(planes, axis=-1).reshape(-1).view(TYPES[spec["type"]]).reshape(rows, *shape)


def read_shard(data):
    """Return the header of a shard's bytes, and its columns by name: lists of texts, or arrays."""
    footer, payload = data[-63:], data[-48:-8]
    checked = struct.pack("<II", zlib.crc32(payload), 40)
    if footer[:15] != START + bytes.fromhex("012800d7ff") or footer[55:] != checked:
        raise ValueError("this is no shard, or it was cut short")
    mark, version, crc, start, length, raw = struct.unpack("<8sIIQQQ", payload)
    if (mark, version, start + length) != (b"FIDSHARD", 1, len(data) - 63):
        raise ValueError(f"{mark!r}, version {version}: no shard, a newer one, or not all of it")
    index = json.loads(unpack(data, start, [(length, raw, crc)])[0][0])
    (payload,), position = unpack(data, 0, [index["header"]])
    header = json.loads(payload.split(b"\n", 1)[1])
    columns: dict[str, list[object]] = {spec["name"]: [] for spec in header["columns"]}
    for block in index["blocks"]:
        group = [member for column in block["columns"] for member in column]
        payloads, position = unpack(data, position, group)
        for spec, members in zip(header["columns"], block["columns"], strict=True):
            mine, payloads = payloads[: len(members)], payloads[len(members) :]
            columns[spec["name"]].extend(values(spec, block["rows"], mine))
    return header, columns


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        print(*read_shard(file.read()), sep="\n")
