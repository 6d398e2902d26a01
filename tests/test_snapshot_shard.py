"""Reading one shard of a snapshot."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import layout
from featureid.storage.files import RangeReader
from featureid.storage.reader import Snapshot, open_snapshot
from tests.storage_samples import make_row, write_snapshot

KEYS = [f"photos/{n:03}.jpg" for n in range(100)]


@pytest.fixture(scope="module")
def snap(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    output = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCK_ROWS", 16)
        write_snapshot(output, KEYS, dtype="float16")
    return open_snapshot(output)


def test_shards_together_are_the_snapshot(snap: Snapshot) -> None:
    shards = snap.shards()
    assert [shard.number for shard in shards] == [0, 1, 2] and len(shards) == snap.num_shards
    assert sum(shard.num_rows for shard in shards) == snap.num_rows
    assert [key for shard in shards for key in shard.row_keys()] == snap.row_keys()
    for name in ("vector", "sha256", "source_size"):
        whole = np.concatenate([np.asarray(shard.column(name)) for shard in shards])
        expected = np.asarray(snap.column(name))
        assert np.array_equal(whole, expected) and whole.dtype == expected.dtype
    assert shards[1].columns() == snap.columns()
    assert snap.shard(2) == shards[2]


def test_a_shard_comes_in_blocks_of_the_columns_asked_for(snap: Snapshot) -> None:
    shard = snap.shard(1)
    blocks = list(shard.blocks(["vector", "key"]))
    assert all(list(block) == ["vector", "key"] for block in blocks)
    assert [len(block["key"]) for block in blocks[:-1]] == [16] * (len(blocks) - 1)
    assert [key for block in blocks for key in block["key"]] == shard.row_keys()
    for block in blocks:
        for key, vector in zip(block["key"], np.asarray(block["vector"]), strict=True):
            assert vector.dtype == np.float32
            assert np.array_equal(vector, make_row(key).vector.astype(np.float16))
    assert [list(block) for block in shard.blocks()] == [[s.name for s in shard.columns()]] * len(
        blocks
    )


def test_a_shard_without_rows_has_empty_columns(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [])
    shard = open_snapshot(tmp_path).shard(0)
    assert (shard.num_rows, shard.row_keys(), list(shard.blocks())) == (0, [], [])
    assert np.asarray(shard.column("vector")).shape == (0, 4)


def test_a_shard_pickles_small_and_reads_elsewhere(snap: Snapshot) -> None:
    shard = snap.shard(1)
    shard.row_keys()
    data = pickle.dumps(shard)
    assert len(data) < 1500
    assert pickle.loads(data).row_keys() == shard.row_keys()


def test_the_file_is_closed_also_where_reading_stops(
    snap: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[RangeReader] = []
    real = RangeReader.close

    def noted(self: RangeReader) -> None:
        opened.append(self)
        real(self)

    monkeypatch.setattr(RangeReader, "close", noted)
    blocks = snap.shard(0).blocks(["key"])
    next(blocks)
    assert not opened
    blocks.close()
    assert len(opened) == 1 and opened[0]._handle is None


def test_what_is_not_there_is_refused(snap: Snapshot) -> None:
    for number in (3, -1):
        with pytest.raises(StorageError, match=f"has 3 shards, no shard {number}"):
            snap.shard(number)
    with pytest.raises(StorageError, match="no column 'mood'"):
        snap.shard(0).column("mood")
    with pytest.raises(StorageError, match="no column 'mood'"):
        next(snap.shard(0).blocks(["mood"]))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("number", 2, r"shard is 1 here, 2 in the manifest"),
        ("summary", {"rows": 7}, r"rows is \d+ here, 7 in the manifest"),
        ("summary", {"bytes": 7}, r"size is \d+ here, 7 in the manifest"),
        ("model", {"digest": "ef" * 32}, r"model_digest is 'abab"),
        ("model", {"faces": "haar all"}, r"faces is '' here, 'haar all' in the manifest"),
    ],
)
def test_a_shard_that_the_manifest_does_not_list_is_found(
    snap: Snapshot, field: str, value: object, said: str
) -> None:
    shard = snap.shard(1)
    if field == "summary":
        shard = replace(shard, summary=replace(shard.summary, **value))  # type: ignore[arg-type]
    elif field == "model":
        model = replace(shard.info.model, **value)  # type: ignore[arg-type]
        shard = replace(shard, info=replace(shard.info, model=model))
    else:
        shard = replace(shard, number=value)  # type: ignore[arg-type]
    with pytest.raises(CorruptFileError, match=said):
        shard.row_keys()
