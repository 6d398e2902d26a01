"""Shards: round trips, rows that are refused, and the reader of docs/format.md."""

from __future__ import annotations

import gzip
import json
import re
import runpy
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featureid.errors import StorageError
from featureid.storage import gzip_members as gm
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.records import EmbeddingRow
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import ShardEncoder, make_header, shard_of, write_shard
from featureid.storage.shard_reader import ShardMap
from tests.golden import make_tiny
from tests.storage_samples import encode, make_info, make_row, read_all

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("key", "vector", "sha256", "source_size", "source_version", "width", "height")
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


def test_members_that_would_inflate_too_much_are_stored(tmp_path: Path) -> None:
    rows = [
        replace(make_row(f"{'long/' * 400}{n:04}", 1), source_version="v" * 500) for n in range(500)
    ]
    data = encode(rows, make_info(1, 1))
    (tmp_path / "x").write_bytes(data)
    check_equal(read_all(tmp_path / "x"), rows)
    assert len(gzip.decompress(data)) <= layout.MAX_RATIO * len(data)
