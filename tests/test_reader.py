"""Reading snapshots: all rows, batches, one row; only the bytes that are needed."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid import parallel
from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members, layout
from featureid.storage.columns import Values
from featureid.storage.files import RangeReader
from featureid.storage.manifest import Counts
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo, SnapshotInfo
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import ShardEncoder, make_header, shard_of
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import read_manifest
from tests.storage_samples import FAILURES, ID, make_row, write_snapshot

KEYS = [f"{n}/é.jpg" if n % 5 else f"{n}.png" for n in range(200)]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_ROWS", 16)
        write_snapshot(folder, KEYS)
    return folder


@pytest.fixture(scope="module")
def snap(output: Path) -> Snapshot:
    return open_snapshot(output)


def test_everything_comes_in_one_order(snap: Snapshot) -> None:
    keys = snap.row_keys()
    assert sorted(keys) == sorted(KEYS)
    assert keys == sorted(KEYS, key=lambda key: (shard_of(key, 3), key))
    assert snap.num_rows == len(snap) == len(keys)
    vectors = snap.vectors()
    assert vectors.dtype == np.float32 and vectors.shape == (200, 4)
    for key, vector in zip(keys, vectors, strict=True):
        assert np.array_equal(vector, make_row(key).vector)
    widths = snap.column("width")
    assert np.asarray(widths).tolist() == [make_row(key).width for key in keys]
    assert np.asarray(snap.column("sha256")).shape == (200, 32)
    assert snap.column("source_version") == [make_row(key).source_version for key in keys]
    assert snap.model.dimension == 4
    assert repr(snap) == f"<Snapshot {snap.folder}: 200 rows of image>"


def test_one_row_by_key(snap: Snapshot) -> None:
    for key in KEYS:
        assert np.array_equal(snap[key], make_row(key).vector)
        assert key in snap
    for key in ("nosuch.jpg", "", "\U0010ffff", "a\udc80"):
        assert key not in snap
        with pytest.raises(KeyError) as caught:
            snap[key]
        assert caught.value.args == (key,)
    assert 7 not in snap  # type: ignore[comparison-overlap]


def test_a_snapshot_is_a_mapping(snap: Snapshot) -> None:
    assert isinstance(snap, Mapping)
    assert list(snap) == list(snap.keys()) == snap.row_keys()
    assert len(snap.keys()) == len(snap.values()) == len(snap.items()) == 200
    for (key, vector), value in zip(snap.items(), snap.values(), strict=True):
        assert (
            vector.dtype == np.float32
            and vector.base is not None
            and vector.base.nbytes == vector.nbytes
        )
        assert np.array_equal(vector, make_row(key).vector) and np.array_equal(vector, value)
    assert snap.keys() >= {"0.png", "1/é.jpg"} and "nosuch.jpg" not in snap
    assert snap.get("nosuch.jpg") is None
    vector = make_row("0.png").vector
    assert ("0.png", vector) in snap.items() and ("5.png", vector) not in snap.items()
    assert ("nosuch.jpg", vector) not in snap.items()
    assert "0.png" not in snap.items()  # type: ignore[operator]
    assert vector in snap.values() and np.zeros(4, np.float32) not in snap.values()


@pytest.mark.parametrize(("view", "columns"), [("keys", 1), ("values", 2), ("items", 2)])
def test_iteration_reads_every_block_once_and_only_when_it_comes_to_it(
    snap: Snapshot, view: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = len(list(snap.blocks([])))
    reads: list[tuple[int, int]] = []
    real = RangeReader.read

    def counted(self: RangeReader, start: int, length: int) -> bytes:
        reads.append((start, length))
        return real(self, start, length)

    monkeypatch.setattr(RangeReader, "read", counted)
    monkeypatch.setattr(parallel, "available_cpus", lambda: 1)
    rows = iter(getattr(snap, view)())
    next(rows)
    assert len(reads) == columns
    assert len(list(rows)) == 199
    assert len(reads) == columns * blocks


def test_a_snapshot_pickles_without_what_it_has_read(snap: Snapshot, output: Path) -> None:
    before = pickle.dumps(open_snapshot(output))
    assert np.array_equal(snap.vectors(), pickle.loads(before).vectors())
    assert pickle.dumps(snap) == before and len(before) < 2000
    copy = pickle.loads(before)
    assert copy == snap and hash(copy) == hash(snap)
    assert copy != Snapshot(f"{snap.folder}/..", snap.manifest) and copy != dict(snap)


@settings(deadline=None)
@given(rows=st.integers(1, 250))
def test_batches(snap: Snapshot, rows: int) -> None:
    batches = list(snap.batches(rows))
    assert [len(keys) for keys, _ in batches[:-1]] == [rows] * (len(batches) - 1)
    assert [key for keys, _ in batches for key in keys] == snap.row_keys()
    assert np.array_equal(np.concatenate([matrix for _, matrix in batches]), snap.vectors())
    assert all(len(keys) == len(matrix) for keys, matrix in batches)


@pytest.mark.parametrize("threads", [1, 2, 9])
def test_threads_change_nothing(snap: Snapshot, threads: int) -> None:
    assert np.array_equal(snap.vectors(threads), snap.vectors())
    assert snap.row_keys(threads) == snap.row_keys()
    first, second = snap.batches(130, threads), snap.batches(130)
    for (keys, matrix), (other_keys, other) in zip(first, second, strict=True):
        assert keys == other_keys and np.array_equal(matrix, other)


def test_blocks_are_columns(snap: Snapshot) -> None:
    blocks = list(snap.blocks())
    assert all(list(block) == [spec.name for spec in snap.columns()] for block in blocks)
    assert [key for block in blocks for key in block["key"]] == snap.row_keys()
    assert np.array_equal(np.concatenate([b["vector"] for b in blocks]), snap.vectors())
    some = list(snap.blocks(["width", "key"]))
    assert list(some[0]) == ["width", "key"]
    with pytest.raises(StorageError, match="no column 'mood'"):
        next(snap.blocks(["mood"]))


def test_vectors_as_a_column_are_float32(snap: Snapshot) -> None:
    assert np.array_equal(snap.column("vector"), snap.vectors())


@pytest.mark.parametrize("threads", [1, 3])
def test_files_are_closed_whatever_happens(
    snap: Snapshot, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[RangeReader] = []
    real = RangeReader.__init__

    def noted(self: RangeReader, uri: str) -> None:
        real(self, uri)
        opened.append(self)

    monkeypatch.setattr(RangeReader, "__init__", noted)
    snap.vectors(threads)
    next(batches := snap.batches(10, threads))
    batches.close()

    def fails(self: RangeReader, start: int, length: int) -> bytes:
        raise StorageError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(RangeReader, "read", fails)
        with pytest.raises(StorageError, match="the disk is gone"):
            snap.vectors(threads)
    assert len(opened) > 4
    assert all(source._handle is None for source in opened)


def test_a_batch_of_nothing_is_refused(snap: Snapshot) -> None:
    with pytest.raises(StorageError, match="batch of 0 rows"):
        next(snap.batches(0))


def test_failures(snap: Snapshot) -> None:
    assert list(snap.failures()) == sorted(FAILURES)


def test_an_unknown_attribute_names_those_there_are(snap: Snapshot) -> None:
    with pytest.raises(StorageError, match="no column 'mood'; it has key, vector, sha256"):
        snap.column("mood")


def test_a_batch_that_nobody_has_memory_for_holds_the_rows_there_are(snap: Snapshot) -> None:
    ((keys, matrix),) = snap.batches(10**15)
    assert len(keys) == len(matrix) == 200


def test_an_empty_snapshot(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [], failures=[])
    snap = open_snapshot(str(tmp_path))
    assert len(snap) == snap.num_rows == 0
    assert snap.row_keys() == list(snap) == []
    assert not list(snap.items()) and not list(snap.values())
    assert snap.vectors().shape == (0, 4)
    assert np.asarray(snap.column("sha256")).shape == (0, 32)
    assert snap.column("source_version") == []
    assert list(snap.batches(10)) == []
    assert list(snap.failures()) == []
    assert "a" not in snap


def test_float16_is_read_as_float32(tmp_path: Path) -> None:
    write_snapshot(tmp_path, KEYS, dtype="float16")
    snap = open_snapshot(str(tmp_path))
    assert snap.vectors().dtype == np.float32
    for key, vector in zip(snap.row_keys(), snap.vectors(), strict=True):
        assert np.array_equal(vector, make_row(key).vector.astype(np.float16))
        assert np.array_equal(vector, snap[key])


def test_a_lookup_reads_an_index_and_one_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shard as a million rows in 16 shards have them: under 1 MB, and no other block."""
    rows, model = 62_500, ModelInfo("image", "d" * 64, "p" * 64, 128)
    info = SnapshotInfo(ID, "2026-11-23T05:42:31Z", "featureid test", model, 1)
    header = make_header(info, 0, rows, row_columns(model)[:2])
    one = np.random.default_rng(0).standard_normal((layout.BLOCK_ROWS, 128)).astype(np.float32)
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    keys = [f"s3://bucket/photos/2026/{n:09d}.jpg" for n in range(rows)]
    starts = range(0, rows, layout.BLOCK_ROWS)
    blocks: list[dict[str, Values]] = [
        {"key": keys[s : s + layout.BLOCK_ROWS], "vector": one[: min(layout.BLOCK_ROWS, rows - s)]}
        for s in starts
    ]
    path = tmp_path / "x.fid.gz"
    path.write_bytes(b"".join(ShardEncoder("x", header, blocks)))
    touched: list[int] = []
    real = RangeReader.read

    def counted(self: RangeReader, start: int, length: int) -> bytes:
        touched.append(length)
        return real(self, start, length)

    monkeypatch.setattr(RangeReader, "read", counted)
    with RangeReader(str(path)) as source:
        shard = ShardMap(source)
        block = shard.find_block(keys[31_000])
        assert block is not None
        assert keys[31_000] in shard.keys(source, block)
        shard.vectors_into(source, block, np.empty((layout.BLOCK_ROWS, 128), np.float32))
    assert len(touched) == 4  # end of file, header, keys, vectors
    assert sum(touched) < 800_000


def test_a_lookup_opens_one_shard_only(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = RangeReader.__init__

    def noted(self: RangeReader, uri: str) -> None:
        opened.append(uri.rsplit("/", 1)[-1])
        real(self, uri)

    snap = open_snapshot(str(output))
    monkeypatch.setattr(RangeReader, "__init__", noted)
    assert KEYS[0] in snap
    assert opened == [f"embeddings-{shard_of(KEYS[0], 3):05d}-of-00003.fid.gz"]


def test_a_shard_of_another_place_is_found(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    folder = tmp_path / "out" / "snapshots" / ID
    shutil.copy(
        folder / "embeddings-00001-of-00003.fid.gz", folder / "embeddings-00002-of-00003.fid.gz"
    )
    with pytest.raises(
        CorruptFileError, match=r"00002-of-00003.*shard is 1 here, 2 in the manifest"
    ):
        open_snapshot(str(tmp_path / "out")).vectors()


def test_damaged_failures_are_found(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    path = tmp_path / "out" / "snapshots" / ID / "failures-00000-of-00001.jsonl.gz"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(CorruptFileError, match=r"failures-00000.*SHA-256"):
            list(open_snapshot(str(tmp_path / "out")).failures())


def test_repeated_failures_are_refused(output: Path, tmp_path: Path) -> None:
    """They could fill the memory out of a small file."""
    shutil.copytree(output, tmp_path / "out")
    folder = tmp_path / "out" / "snapshots" / ID
    data = gzip_members.deflate(FAILURES[1].to_json() * 100_000)
    (folder / "failures-00000-of-00001.jsonl.gz").write_bytes(data)
    manifest = read_manifest(str(folder))
    summary = replace(
        manifest.failures[0],
        rows=100_000,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    embedded = manifest.counts.embedded
    counts = Counts(embedded + 100_000, embedded, 100_000, {"empty": 100_000})
    forged = replace(manifest, failures=(summary,), counts=counts)
    (folder / "manifest.json").write_bytes(forged.to_json())
    with pytest.raises(CorruptFileError, match="line 2 is not in order, or a repetition"):
        list(open_snapshot(str(tmp_path / "out")).failures())


def test_a_missing_shard_is_named(output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    (tmp_path / "out" / "snapshots" / ID / "embeddings-00000-of-00003.fid.gz").unlink()
    with pytest.raises(StorageError, match=r"Cannot read .*embeddings-00000-of-00003\.fid\.gz"):
        open_snapshot(str(tmp_path / "out")).row_keys()


def test_object_stores_work_the_same() -> None:
    place = "memory://bucket/out"
    write_snapshot(place, KEYS)
    snap = open_snapshot(place)
    assert np.array_equal(snap["0.png"], make_row("0.png").vector)
    assert len(snap.vectors()) == 200
