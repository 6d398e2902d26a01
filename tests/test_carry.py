"""Rows carried from one snapshot to the next, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import CorruptFileError, StorageError
from featureid.storage.carry import (
    CarriedRows,
    check_can_carry,
    merged_blocks,
    read_row_index,
    shards_between,
    write_refreshed_shard,
)
from featureid.storage.columns import Values
from featureid.storage.reader import Snapshot
from featureid.storage.records import EmbeddingRow, Face
from featureid.storage.shard import shard_of
from featureid.storage.snapshot import snapshot_folder
from tests.storage_samples import ID, make_info, make_row, read_all, write_rows, write_snapshot

NEW_ID = "20261124T054231Z-000000"
KEYS = [f"photos/{n:04}.jpg" for n in range(200)]


@pytest.fixture(params=["float32", "float16"])
def previous(tmp_path: Path, request: pytest.FixtureRequest) -> Snapshot:
    manifest = write_snapshot(tmp_path / "old", KEYS, 4, dtype=request.param)
    return Snapshot(snapshot_folder(str(tmp_path / "old"), ID), manifest)


def refresh(
    folder: Path,
    previous: Snapshot,
    num_shards: int,
    carry: set[str],
    rows: list[EmbeddingRow],
    versions: dict[str, str],
) -> dict[str, list[Any]]:
    """Refresh all shards, and return all columns of all of them."""
    info = replace(previous.manifest.info, snapshot=NEW_ID, num_shards=num_shards)
    folder.mkdir()
    masks = {
        shard.number: np.array([key in carry for key in shard.row_keys()])
        for shard in previous.shards()
    }
    found: dict[str, list[Any]] = {}
    for shard in range(num_shards):
        carried = CarriedRows(
            {
                number: mask
                for number, mask in masks.items()
                if shard in shards_between(number, previous.num_shards, num_shards)
            },
            {key: v for key, v in versions.items() if shard_of(key, num_shards) == shard},
        )
        own = [row for row in rows if shard_of(row.key, num_shards) == shard]
        summary = write_refreshed_shard(str(folder), info, shard, own, previous, carried)
        columns = read_all(folder / summary.file)
        assert columns["key"] == sorted(columns["key"])
        assert all(shard_of(key, num_shards) == shard for key in columns["key"])
        for name, values in columns.items():
            found.setdefault(name, []).extend(values)
    return found


@pytest.mark.parametrize("num_shards", [4, 8, 2, 3, 1])
def test_a_refreshed_snapshot_is_what_a_full_one_would_be(
    previous: Snapshot, tmp_path: Path, num_shards: int
) -> None:
    carry, touched = set(KEYS[:150]), {KEYS[160]: "new version", KEYS[161]: "another"}
    new = [make_row(key) for key in ("a.jpg", "photos/0007a.jpg", "z.jpg")]
    changed = replace(make_row(KEYS[155]), vector=make_row("other").vector)
    found = refresh(tmp_path / "new", previous, num_shards, carry, [*new, changed], touched)
    rows = [make_row(key) for key in carry] + [*new, changed]
    rows += [replace(make_row(key), source_version=version) for key, version in touched.items()]
    by_key = {row.key: row for row in rows}
    assert sorted(found["key"]) == sorted(by_key)
    dtype = previous.manifest.info.model.dtype
    for position, key in enumerate(found["key"]):
        row = by_key[key]
        assert found["vector"][position].tobytes() == row.vector.astype(dtype).tobytes()
        assert found["sha256"][position].tobytes() == row.sha256
        for name in ("source_size", "source_version", "width", "height"):
            assert found[name][position] == getattr(row, name)


def test_the_row_index_has_keys_versions_and_digests(previous: Snapshot) -> None:
    for shard in previous.shards():
        index = read_row_index(shard, digests=True)
        rows = [make_row(key) for key in KEYS if shard_of(key, 4) == shard.number]
        assert index.keys == [row.key for row in rows]
        assert index.versions == [row.source_version for row in rows]
        assert index.digests is not None
        assert [digest.tobytes() for digest in index.digests] == [row.sha256 for row in rows]
        assert read_row_index(shard, digests=False).digests is None


def test_faces_stay_together_and_keep_every_bit(tmp_path: Path) -> None:
    info = make_info(1, faces="dlib all min-face=20 no-face=skip")
    rows = [
        replace(make_row(key), face=Face(n, (1.5, 2, 30, 40.25), ((3, 4.5),), 0.75))
        for key in ("a", "b", "c")
        for n in range(3)
    ]
    rows.append(replace(make_row("w"), face=Face(-1, (0, 0, 5, 5))))
    folder = snapshot_folder(str(tmp_path), ID)
    old = Snapshot(folder, write_rows(tmp_path, info, rows))
    mask = np.array([row.key != "b" for row in rows])
    new = replace(info, snapshot=NEW_ID)
    target = tmp_path / "new"
    target.mkdir()
    changed = [row for row in rows if row.key == "b"][:2]
    shard = write_refreshed_shard(str(target), new, 0, changed, old, CarriedRows({0: mask}))
    before, after = read_all(Path(folder, shard.file)), read_all(target / shard.file)
    kept = [n for n, row in enumerate(rows) if row.key != "b" or row in changed]
    for name, values in before.items():
        wanted = [values[n] for n in kept]
        assert np.asarray(after[name]).tobytes() == np.asarray(wanted).tobytes(), name


def test_damage_is_found_and_not_carried(previous: Snapshot, tmp_path: Path) -> None:
    shard = Path(previous.folder, previous.manifest.embeddings[1].file)
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(CorruptFileError, match="is damaged"):
        refresh(tmp_path / "new", previous, 4, set(KEYS), [], {})
    assert not (tmp_path / "new" / shard.name).exists()


def test_a_mask_of_another_length_is_refused(previous: Snapshot, tmp_path: Path) -> None:
    info = replace(previous.manifest.info, snapshot=NEW_ID)
    carried = CarriedRows({0: np.ones(3, np.bool_)})
    with pytest.raises(StorageError, match="rows, not 3"):
        write_refreshed_shard(str(tmp_path), info, 0, [], previous, carried)


def test_other_columns_are_refused(previous: Snapshot) -> None:
    check_can_carry(previous, previous.model)
    with pytest.raises(StorageError, match=r"cannot be carried over. Give `re_embed=True`"):
        check_can_carry(previous, replace(previous.model, faces="haar all"))


@given(st.integers(1, 40), st.integers(1, 40), st.text(max_size=5))
def test_a_key_is_in_a_shard_between(here: int, there: int, key: str) -> None:
    key = key.encode("utf-8", "replace").decode()
    assert shard_of(key, there) in shards_between(shard_of(key, here), here, there)


@settings(max_examples=50)
@given(st.lists(st.sets(st.integers(0, 60)), max_size=4), st.integers(1, 9), st.integers(1, 3))
def test_merged_blocks_are_sorted_and_whole(
    sets: list[set[int]], block_rows: int, faces: int
) -> None:
    seen: set[int] = set()
    parts: list[dict[str, Values]] = []
    for numbers in sets:
        own = sorted(f"{n:02}" for n in numbers - seen for _ in range(faces))
        seen |= numbers
        if own:
            parts.append({"key": own, "face": np.arange(len(own)) % faces})
    blocks = list(merged_blocks(parts, block_rows))
    merged = [key for block in blocks for key in block["key"]]
    assert merged == sorted(f"{n:02}" for n in seen for _ in range(faces))
    order = [face for block in blocks for face in np.asarray(block["face"]).tolist()]
    assert order == list(range(faces)) * len(seen)
    for block in blocks[:-1]:
        assert block_rows <= len(block["key"]) < block_rows + faces
    assert all(len(set(b["key"])) * faces == len(b["key"]) for b in blocks)
