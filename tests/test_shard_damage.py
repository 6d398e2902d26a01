"""Damaged and forged shards are refused, and the place of the damage is named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members as gm
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import make_header
from featureid.storage.shard_reader import ShardMap
from tests.storage_samples import encode, make_info, make_row, read_all

Change = Callable[[Any], object]


def test_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    rows = [make_row(key) for key in ("a", "bb", "é")]
    data = encode(rows, make_info(), 2)
    path = tmp_path / "x.fid.gz"
    rng = np.random.default_rng(0)
    for position in range(len(data)):
        for mask in (1 << int(rng.integers(8)), 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            with pytest.raises(DamageError) as caught:
                read_all(path)
            error = caught.value
            assert error.file == str(path)
            assert error.start <= position < error.end
            assert f"x.fid.gz: {error.place} (bytes {error.start} to {error.end - 1})" in str(error)


def test_every_truncation_and_every_addition_is_detected(tmp_path: Path) -> None:
    data = encode([make_row(key) for key in ("a", "bb", "é")], make_info(), 2)
    path = tmp_path / "x.fid.gz"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DamageError, match="the footer"):
            read_all(path)
    for more in (b"\0", data, bytes(100_000)):
        path.write_bytes(data + more)
        with pytest.raises(CorruptFileError):
            read_all(path)


def test_the_place_of_damage_is_named(tmp_path: Path) -> None:
    data = encode([make_row(f"{n:04}", 32) for n in range(400)], make_info(1, 32), 100)
    path = tmp_path / "x.fid.gz"
    path.write_bytes(data)
    with RangeReader(str(path)) as source:
        member = ShardMap(source).index.blocks[3].columns[1][2]
    damaged = bytearray(data)
    damaged[member.offset + 50] ^= 1
    path.write_bytes(damaged)
    wanted = f"block 3, column vector, plane 2 (bytes {member.offset} to {member.end - 1})"
    with pytest.raises(DamageError) as caught:
        read_all(path)
    assert wanted in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def signed_again(data: bytes, change: Change) -> bytes:
    """Return a shard whose index was altered by ``change``, with valid checksums."""
    index = layout.parse_footer(data[-layout.FOOTER_SIZE :], len(data))
    fields = json.loads(gm.unpack(data[index.offset : index.end], index.raw_length))
    change(fields)
    payload = json.dumps(fields).encode()
    member, entry = pack_member(payload, index.offset)
    return data[: index.offset] + member + layout.footer_member(entry)


def forged(*path_and_value: Any) -> Change:
    *path, name, value = path_and_value

    def change(fields: Any) -> None:
        for step in path:
            fields = fields[step]
        fields[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        forged("blocks", 0, "rows", 10**12),
        forged("blocks", 0, "rows", 1),
        forged("blocks", 0, "rows", 0),
        forged("blocks", 0, "rows", -1),
        forged("blocks", 0, "rows", True),
        forged("blocks", 0, "rows", 2.0),
        forged("blocks", 0, "rows", None),
        forged("blocks", 0, "offset", 0),
        forged("blocks", 1, "columns", 0, 0, 0, 10**12),
        forged("blocks", 0, "columns", 0, 0, 1, 10**12),
        forged("blocks", 0, "columns", 1, 3, 1, 10**12),
        forged("blocks", 0, "columns", 0, 0, []),
        forged("blocks", 0, "columns", 0, []),
        forged("blocks", 0, "columns", []),
        forged("blocks", 0, "columns", 7),
        forged("blocks", 0, "first", 7),
        forged("blocks", 0, {}),
        forged("blocks", []),
        forged("blocks", None),
        forged("header", [1, 2]),
        forged("header", 1, 10**15),
        forged("header", 0, 1 << 70),
        lambda fields: fields.pop("header"),
        lambda fields: fields["blocks"].reverse(),
        lambda fields: fields["blocks"].append(fields["blocks"][0]),
    ],
)
def test_a_forged_index_is_refused_before_memory_is_taken(tmp_path: Path, change: Change) -> None:
    data = encode([make_row(key) for key in ("a", "bb", "é")], make_info(), 2)
    path = tmp_path / "x.fid.gz"
    path.write_bytes(signed_again(data, lambda fields: None))
    read_all(path)
    path.write_bytes(signed_again(data, change))
    with pytest.raises(DamageError):
        read_all(path)


@pytest.mark.parametrize("rows", [3, 200, 300])
def test_exchanged_stored_members_are_detected(tmp_path: Path, rows: int) -> None:
    """Both members are complete and equally long, and their gzip checksums are valid."""
    data = encode([make_row(f"{n:04}", 128) for n in range(2 * rows)], make_info(1, 128), rows)
    path = tmp_path / "x.fid.gz"
    path.write_bytes(data)
    with RangeReader(str(path)) as source:
        first, second = ShardMap(source).index.blocks
    for one, other in (
        (first.columns[1][0], first.columns[1][1]),
        (first.columns[1][2], second.columns[1][2]),
        (first.columns[2][0], second.columns[2][0]),
    ):
        assert one.length == other.length and one.crc != other.crc
        swapped = bytearray(data)
        swapped[one.offset : one.end] = data[other.offset : other.end]
        swapped[other.offset : other.end] = data[one.offset : one.end]
        path.write_bytes(swapped)
        with pytest.raises(DamageError, match="checksum does not match"):
            read_all(path)


@pytest.mark.parametrize(
    "column",
    [
        ColumnSpec("vector", "float32", (1 << 29,), "planes"),
        ColumnSpec("vector", "float32", (10**17,), "planes"),
        ColumnSpec("x", "float32", (1,) * 9),
        ColumnSpec("x", "uint8", (1 << 16, 1 << 16)),
    ],
)
def test_values_too_large_to_exist_are_refused_even_without_rows(
    tmp_path: Path, column: ColumnSpec
) -> None:
    info = make_info(dimension=column.shape[0] if column.name == "vector" else 4)
    specs = row_columns(info.model)[:2]
    specs = (specs[0], column) if column.name == "vector" else (*specs, column)
    with pytest.raises(StorageError, match=f"column {column.name} is too large to exist"):
        make_header(info, 0, 0, specs)

    fields = json.loads(layout.header_payload(make_header(make_info(), 0, 0)).split(b"\n")[1])
    fields["dimension"] = info.model.dimension
    fields["columns"] = [asdict(spec) for spec in specs]
    (tmp_path / "x").write_bytes(shard_without_rows(fields))
    with pytest.raises(DamageError, match=f"column {column.name} is too large to exist"):
        read_all(tmp_path / "x")


def shard_without_rows(header_fields: dict[str, Any]) -> bytes:
    """Return a shard with this header and valid checksums."""
    payload = b"featureid-shard 1\n" + json.dumps(header_fields).encode() + b"\n"
    data, entry = pack_member(payload, 0)
    member, place = pack_member(layout.index_payload(layout.Index(entry, ())), len(data))
    return data + member + layout.footer_member(place)


def pack_member(payload: bytes, offset: int) -> tuple[bytes, layout.Member]:
    member = layout.pack_text(payload)
    return member, layout.Member(offset, len(member), len(payload), gm.member_crc(member))


def test_two_exchanged_blocks_are_detected(tmp_path: Path) -> None:
    rows = [make_row(f"{n}") for n in range(4)]
    data = encode(rows, make_info(), 2)
    path = tmp_path / "x.fid.gz"
    path.write_bytes(data)
    with RangeReader(str(path)) as source:
        index = ShardMap(source).index
    first, second = (columns[0][0].offset for columns in (b.columns for b in index.blocks))
    end = index.blocks[1].columns[-1][-1].end
    path.write_bytes(data[:first] + data[second:end] + data[first:second] + data[end:])
    with pytest.raises(DamageError, match="block 0"):
        read_all(path)


def test_a_later_version_is_refused_but_not_called_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "VERSION", 2)
    data = encode([make_row("a")], make_info())
    monkeypatch.undo()
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(StorageError, match=r"x: its format version is 2.*update") as caught:
        read_all(tmp_path / "x")
    assert not isinstance(caught.value, CorruptFileError)
