"""Shards: round trips, refusals, and the detection of every kind of damage."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import runpy
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members as gm
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError
from featureid.storage.records import EmbeddingRow
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import ShardEncoder, make_header, shard_of, write_shard
from featureid.storage.shard_reader import ShardMap
from tests.golden import make_tiny
from tests.storage_samples import encode, make_info, make_row, read_all

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("key", "vector", "sha256", "source_size", "source_version", "width", "height")
Change = Callable[[Any], object]
unique_keys = st.lists(st.text(max_size=8), unique=True, max_size=25)
in_tmp = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def check_equal(
    got: dict[str, list[Any]], rows: list[EmbeddingRow], dtype: str = "float32"
) -> None:
    rows = sorted(rows, key=lambda row: row.key.encode())
    assert tuple(got) == NAMES
    assert got["key"] == [row.key for row in rows]
    for row, vector in zip(rows, got["vector"], strict=True):
        assert np.array_equal(vector, row.vector.astype(dtype))
    assert [bytes(value) for value in got["sha256"]] == [row.sha256 for row in rows]
    for name in NAMES[3:]:
        assert got[name] == [getattr(row, name) for row in rows]


@in_tmp
@given(
    keys=unique_keys, block_rows=st.integers(1, 9), dtype=st.sampled_from(["float32", "float16"])
)
def test_round_trip(tmp_path: Path, keys: list[str], block_rows: int, dtype: str) -> None:
    rows = [make_row(key) for key in keys]
    path = tmp_path / "x.fid.gz"
    path.write_bytes(encode(rows, make_info(dtype=dtype), block_rows))
    check_equal(read_all(path), rows, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows", [0, 1, 1024, 1025, 3000])
def test_round_trip_of_whole_blocks(tmp_path: Path, rows: int, dtype: str) -> None:
    wanted = [make_row(f"photos/{n}.jpg", 16) for n in range(rows)]
    info = make_info(dimension=16, dtype=dtype)
    summary = write_shard(str(tmp_path), info, 0, wanted)
    check_equal(read_all(tmp_path / summary.file), wanted, dtype)
    assert summary.rows == rows
    assert summary.bytes == (tmp_path / summary.file).stat().st_size


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    rows = [make_row(key) for key in "qwertyéß中"]
    first = write_shard(str(tmp_path), make_info(), 0, rows)
    assert write_shard(str(tmp_path), make_info(), 0, reversed(rows)) == first
    assert (first.first_key, first.last_key) == ("e", "中")


def test_gzip_tools_accept_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "x.fid.gz"
    path.write_bytes(encode([make_row(str(n), 64) for n in range(700)], make_info(1, 64), 300))
    subprocess.run(["gzip", "-t", path], check=True)
    text = subprocess.run(["zcat", path], check=True, stdout=subprocess.PIPE).stdout
    assert gzip.decompress(path.read_bytes()) == text
    assert text.startswith(b'featureid-shard 1\n{"snapshot":"20261123T054231Z-3f9a1c"')
    header = json.loads(text.split(b"\n", 2)[1])
    assert header["columns"][1] == {
        "name": "vector",
        "type": "float32",
        "shape": [64],
        "encoding": "planes",
    }


@pytest.mark.parametrize("name", ["float32", "float16", "tiny"])
def test_the_reader_of_the_document_reads_the_same(name: str) -> None:
    path = GOLDEN / f"{name}.fid.gz"
    check_stand_alone(path)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_reader_of_the_document_reads_fresh_shards(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "x.fid.gz"
    rows = [make_row(f"{n}/é.jpg", 128) for n in range(700)]
    for some in (rows, []):
        path.write_bytes(encode(some, make_info(1, 128, dtype), 300))
        check_stand_alone(path)
    path.write_bytes(faces_shard()[1])
    check_stand_alone(path)


def test_the_reader_of_the_document_detects_damage() -> None:
    read = runpy.run_path(str(DOCS / "read_shard.py"))["read_shard"]
    data = (GOLDEN / "float32.fid.gz").read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(ValueError):
            read(bytes(damaged))
        with pytest.raises(ValueError):
            read(data[:position])


def check_stand_alone(path: Path) -> None:
    header, columns = runpy.run_path(str(DOCS / "read_shard.py"))["read_shard"](path.read_bytes())
    wanted = read_all(path)
    assert list(columns) == list(wanted)
    for name, values in wanted.items():
        assert np.asarray(columns[name]).tobytes() == np.asarray(values).tobytes()
    assert header["rows"] == len(wanted["key"])


def test_the_reader_of_the_document_is_short_and_stands_alone() -> None:
    text = (DOCS / "read_shard.py").read_text()
    assert len(text.splitlines()) < 80
    imported = {line.split()[1] for line in text.splitlines() if line.startswith("import ")}
    assert imported == {"json", "struct", "sys", "zlib", "numpy"} and "\nfrom " not in text


def test_the_hex_dump_in_the_document_is_that_of_the_tiny_shard() -> None:
    data = make_tiny.PATH.read_bytes()
    assert data == make_tiny.make()
    dump = make_tiny.dump(make_tiny.PATH)
    shown = re.findall(r"^[0-9a-f]{4}  (.{47})", dump, re.MULTILINE)
    assert bytes.fromhex("".join(shown)) == data
    assert dump in (DOCS / "format.md").read_text(encoding="utf-8")


def test_either_library_reads_what_either_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(str(n), 32) for n in range(300)]
    engines = [gm.ZlibEngine(), gm.engine]
    for number, writer in enumerate(engines):
        monkeypatch.setattr(gm, "engine", writer)
        path = tmp_path / f"{number}.fid.gz"
        path.write_bytes(encode(rows, make_info(1, 32), 100))
        for reader in engines:
            monkeypatch.setattr(gm, "engine", reader)
            check_equal(read_all(path), rows)


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
@pytest.mark.parametrize("name", ["float32", "float16"])
def test_golden_shards_decode(
    name: str, engine: gm.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gm, "engine", engine)
    wanted = json.loads((GOLDEN / f"{name}.json").read_text())
    path = GOLDEN / f"{name}.fid.gz"
    got = read_all(path)
    assert got["key"] == wanted["key"]
    assert [vector.tobytes().hex() for vector in got["vector"]] == wanted["vector"]
    assert [bytes(value).hex() for value in got["sha256"]] == wanted["sha256"]
    for column in ("source_size", "source_version", "width", "height"):
        assert got[column] == wanted[column]
    with RangeReader(str(path)) as source:
        header = ShardMap(source).header
    payload = layout.header_payload(header)
    assert payload.decode() == wanted["header"]


@pytest.mark.parametrize(("key", "home"), [("", 3), ("a", 10), ("2026/é 中.jpg", 14)])
def test_shard_of_never_changes(key: str, home: int) -> None:
    # sha256sum gives e3..., ca... and ce...: the first byte is the least significant
    assert shard_of(key, 16) == home
    assert shard_of(key, 1) == 0
    assert shard_of("abc", 1_000_003) == 0xEACF018FBF1678BA % 1_000_003


def test_shard_of_refuses_what_cannot_be_stored() -> None:
    with pytest.raises(StorageError, match="not valid Unicode"):
        shard_of("a\udc80", 4)
    with pytest.raises(StorageError, match="0 shards"):
        shard_of("a", 0)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([1, 0, 0, np.nan], "length nan"),
        ([np.inf, 0, 0, 0], "length inf"),
        ([0, 0, 0, 0], r"length 0\.0"),
        ([1.002, 0, 0, 0], r"length 1\.00"),
        ([1, 0, 0], "shape \\(3,\\); the model 'image' has dimension 4"),
    ],
)
def test_vectors_without_unit_length_are_refused(
    tmp_path: Path, vector: list[float], said: str
) -> None:
    row = replace(make_row("bad.jpg"), vector=np.array(vector, np.float32))
    with pytest.raises(StorageError, match=rf"bad\.jpg.*{said}"):
        write_shard(str(tmp_path), make_info(), 0, [make_row("a.jpg"), row])
    assert list(tmp_path.iterdir()) == []


def test_duplicate_keys_are_refused(tmp_path: Path) -> None:
    rows = [make_row(key) for key in ("a", "b", "b", "c")]
    with pytest.raises(StorageError, match="duplicate row 'b'"):
        write_shard(str(tmp_path), make_info(), 0, rows)


def test_a_key_of_another_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="'a' belongs in shard 2, not 0"):
        write_shard(str(tmp_path), make_info(4), 0, [make_row("a")])


@pytest.mark.parametrize(
    ("blocks", "rows", "said"),
    [
        ([{"key": ["b", "a"]}], 2, "row 'a' follows 'b'; rows must be sorted"),
        ([{"key": ["b"]}, {"key": ["a"]}], 2, "row 'a' follows 'b'; rows must be sorted"),
        ([{"key": ["b"]}, {"key": ["b"]}], 2, "'b' has rows in two blocks, or twice"),
        ([{"key": ["a"]}], 2, "the blocks have 1 rows, the header says 2"),
        ([{"key": []}], 0, "a block has no rows"),
    ],
)
def test_blocks_that_break_the_rules_are_refused(
    blocks: list[dict[str, list[str]]], rows: int, said: str
) -> None:
    info = make_info()
    header = make_header(info, 0, rows, row_columns(info.model)[:2])
    unit = np.array([1, 0, 0, 0], np.float32)
    full: list[dict[str, Values]] = [
        {**block, "vector": np.tile(unit, (len(block["key"]), 1))} for block in blocks
    ]
    encoder = ShardEncoder("x", header, full)
    with pytest.raises(StorageError, match=said):
        list(encoder)
    with pytest.raises(StorageError, match="not been encoded to its end"):
        _ = encoder.summary


def faces_shard(extra: Sequence[ColumnSpec] = ()) -> tuple[dict[str, Values], bytes]:
    """Return a block with the columns of faces, and its shard, with extra columns."""
    info = make_info()
    specs = (
        *row_columns(info.model)[:2],
        ColumnSpec("face_index", "int32"),
        ColumnSpec("box", "float32", (4,)),
        ColumnSpec("landmarks", "float32", (5, 2)),
        ColumnSpec("score", "float32"),
        *extra,
    )
    keys = ["a.jpg", "a.jpg", "b.jpg"]
    block: dict[str, Values] = {
        "key": keys,
        "vector": np.stack([make_row(f"{n}").vector for n in range(3)]),
        "face_index": np.array([0, 1, 0], "<i4"),
        "box": np.arange(12, dtype="<f4").reshape(3, 4),
        "landmarks": np.arange(30, dtype="<f4").reshape(3, 5, 2),
        "score": np.array([0.5, 0.25, 1], "<f4"),
        "later": np.array([1, 2, 3], "<i4"),
    }
    return block, b"".join(ShardEncoder("x", make_header(info, 0, 3, specs), [block]))


def test_face_columns_and_several_rows_per_key_fit_the_format(tmp_path: Path) -> None:
    block, data = faces_shard()
    (tmp_path / "x").write_bytes(data)
    got = read_all(tmp_path / "x")
    for name in ("key", "vector", "face_index", "box", "landmarks", "score"):
        assert np.array_equal(got[name], block[name])


def test_a_column_from_the_future_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = layout.header_payload

    def renamed(header: layout.ShardHeader) -> bytes:
        text = real(header).replace(b'"later","type":"int32"', b'"later","type":"int5"')
        return text.replace(b'"norm":"l2"', b'"norm":"l2","mood":{"from":"the future"}')

    monkeypatch.setattr(layout, "header_payload", renamed)
    block, data = faces_shard([ColumnSpec("later", "int32")])
    (tmp_path / "x").write_bytes(data)
    with RangeReader(str(tmp_path / "x")) as source:
        shard = ShardMap(source)
        assert shard.keys(source, 0) == block["key"]
        assert np.array_equal(shard.values(source, 0, "score"), block["score"])
        with pytest.raises(StorageError, match="'later' is int5 in plain"):
            shard.values(source, 0, "later")
        with pytest.raises(StorageError, match="no column 'latest'; it has key, vector"):
            shard.values(source, 0, "latest")


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


def test_members_that_would_inflate_too_much_are_stored(tmp_path: Path) -> None:
    rows = [
        replace(make_row(f"{'long/' * 400}{n:04}", 1), source_version="v" * 500) for n in range(500)
    ]
    data = encode(rows, make_info(1, 1))
    (tmp_path / "x").write_bytes(data)
    check_equal(read_all(tmp_path / "x"), rows)
    assert len(gzip.decompress(data)) <= layout.MAX_RATIO * len(data)
