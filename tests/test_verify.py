"""verify names whatever is wrong, and goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featureid.errors import StorageError
from featureid.storage import columns, layout
from featureid.storage import shard as shard_module
from featureid.storage.columns import ColumnSpec, Packed, Values
from featureid.storage.files import RangeReader
from featureid.storage.layout import ShardHeader
from featureid.storage.manifest import digest_of
from featureid.storage.records import Failure
from featureid.storage.run_record import RUN
from featureid.storage.shard_reader import ShardMap
from featureid.storage.verify import verify_snapshot
from tests.storage_samples import ID, write_snapshot

KEYS = [f"{n}.jpg" for n in range(40)]
FIRST = "embeddings-00000-of-00003.fid.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layout, "BLOCK_ROWS", 4)
    write_snapshot(tmp_path, KEYS)
    return tmp_path / "snapshots" / ID


def problems(folder: Path) -> list[str]:
    return [problem.message for problem in verify_snapshot(str(folder)).problems]


def test_a_good_snapshot(folder: Path) -> None:
    report = verify_snapshot(str(folder.parent.parent))
    assert report.ok and report.problems == []
    assert (report.num_files, report.rows) == (5, 40)
    assert report.bytes == sum(path.stat().st_size for path in folder.glob("*.gz"))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_report_and_every_row_is_counted(folder: Path, threads: int) -> None:
    for name in ("embeddings-00002-of-00003.fid.gz", FIRST):
        data = bytearray((folder / name).read_bytes())
        data[200] ^= 1
        (folder / name).write_bytes(data)
    counted: list[int] = []
    report = verify_snapshot(str(folder), threads=threads, on_rows=counted.append)
    files = [problem.file.rsplit("/", 1)[-1] for problem in report.problems]
    assert files == sorted(files) and set(files) == {FIRST, "embeddings-00002-of-00003.fid.gz"}
    assert report.num_files == 5
    assert sum(counted) <= 40 and len(counted) > 3


def test_damage_in_two_places_of_one_file_is_all_named(folder: Path) -> None:
    path = folder / FIRST
    with RangeReader(str(path)) as source:
        shard = ShardMap(source)
        key = shard.index.blocks[0].columns[0][0]
        plane = shard.index.blocks[2].columns[1][4]
    data = bytearray(path.read_bytes())
    for member in (key, plane):
        data[member.end - 3] ^= 0x20
    path.write_bytes(data)
    assert [message.split(": ", 1)[1].split(" is damaged")[0] for message in problems(folder)] == [
        "its SHA-256 is not that of the manifest",
        f"block 0, column key (bytes {key.offset} to {key.end - 1})",
        f"block 2, column vector, plane 4 (bytes {plane.offset} to {plane.end - 1})",
    ]


def test_every_flipped_byte_of_every_file_is_found(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name == RUN:  # about the run, not about the data
            continue
        data = path.read_bytes()
        for position in range(0, len(data), 41):
            damaged = bytearray(data)
            damaged[position] ^= 2
            path.write_bytes(damaged)
            found = problems(folder)
            assert found or path.name == "manifest.json", (path.name, position)
            assert all(path.name in message for message in found)
            if not found:  # white space between the manifest's values means nothing
                assert data[position] in b" \n"
        path.write_bytes(data)
    assert problems(folder) == []


def test_missing_and_extra_files(folder: Path) -> None:
    (folder / FIRST).unlink()
    (folder / "extra.bin").write_bytes(b"")
    (folder / ".embeddings.0a1b2c3d.tmp").write_bytes(b"of a killed writer")
    found = problems(folder)
    assert len(found) == 2
    assert "extra.bin is not listed" in found[0]
    assert FIRST in found[1] and "No such file" in found[1]


def test_a_shard_of_another_snapshot(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_snapshot(other, KEYS, snapshot="20261124T010203Z-000000")
    source = other / "snapshots" / "20261124T010203Z-000000" / FIRST
    (folder / FIRST).write_bytes(source.read_bytes())
    assert any("snapshot is '20261124T010203Z-000000' here" in m for m in problems(folder))


def test_an_edited_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"embedded": 40', '"embedded": 41'))
    assert len(found := problems(folder)) == 1
    assert "manifest.json: it was changed after it was written" in found[0]


def resign(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    fields["digest"] = digest_of(fields)
    path.write_text(json.dumps(fields))


def test_a_signed_manifest_with_wrong_counts(folder: Path) -> None:
    counts = {"images": 43, "embedded": 41, "failed": 2}
    resign(folder, lambda fields: fields["counts"].update(counts))
    assert problems(folder) == ["40 images have rows, the manifest counts 41"]


def test_a_signed_manifest_with_wrong_reasons_and_keys(folder: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["counts"]["failures_by_reason"] = {"empty": 2}
        fields["embeddings"][0]["last_key"] = "zzz"
        fields["embeddings"][1]["rows"] += 1
        fields["embeddings"][2]["bytes"] += 1

    resign(folder, change)
    found = " | ".join(problems(folder))
    assert "its first and last key are not those of the manifest" in found
    assert "rows is" in found
    assert "size is" in found


def test_wrong_reasons(folder: Path) -> None:
    resign(folder, lambda fields: fields["counts"].update({"failures_by_reason": {"empty": 2}}))
    assert any("the failures by reason are" in message for message in problems(folder))


@pytest.mark.parametrize(
    ("patched", "said"),
    [
        ("shard_of", "belongs in another shard"),
        ("_checked_vectors", "has length 2.0, not 1"),
    ],
)
def test_rows_that_a_bad_writer_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patched: str, said: str
) -> None:
    def far_too_long(
        _file: str, header: ShardHeader, block: dict[str, Values]
    ) -> npt.NDArray[np.float32]:
        return np.tile(np.array([2, 0, 0, 0], "<f4"), (len(block["key"]), 1))

    bad: dict[str, Callable[..., object]] = {
        "shard_of": lambda key, num_shards: 0,
        "_checked_vectors": far_too_long,
    }
    monkeypatch.setattr(shard_module, patched, bad[patched])
    if patched == "shard_of":
        monkeypatch.setattr("tests.storage_samples.shard_of", bad[patched])
    write_snapshot(tmp_path, KEYS)
    monkeypatch.undo()
    assert any(said in message for message in problems(tmp_path))


def test_unsorted_keys_of_a_bad_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "sorted", lambda rows, key: list(rows), raising=False)
    monkeypatch.setattr(shard_module.ShardEncoder, "_check_keys", lambda self, keys, faces: None)
    monkeypatch.setattr(layout, "BLOCK_ROWS", 2)
    write_snapshot(tmp_path, ["d", "c", "a", "b"], num_shards=1)
    monkeypatch.undo()
    found = " | ".join(problems(tmp_path))
    assert "its keys are not sorted, or there is a duplicate" in found
    assert "its keys do not follow those of the previous block" in found


def test_a_wrong_gzip_trailer_behind_a_right_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = columns.to_members

    def wrong(spec: ColumnSpec, values: Values, smaller: bool = True) -> list[Packed]:
        packed = real(spec, values, smaller=smaller)
        return (
            [(bytes(m)[:-8] + bytes(8), n) for m, n in packed] if spec.name == "width" else packed
        )

    monkeypatch.setattr(columns, "to_members", wrong)
    write_snapshot(tmp_path, KEYS, num_shards=1)
    monkeypatch.undo()
    (found,) = problems(tmp_path)
    assert "block 0, column width (bytes" in found and "the gzip checksum" in found


def test_many_failures_files_and_no_snapshot(tmp_path: Path) -> None:
    write_snapshot(tmp_path, [], failures=[Failure(f"{n}", "read", "gone", "x") for n in range(9)])
    assert problems(tmp_path) == []
    with pytest.raises(StorageError, match="holds no complete snapshot"):
        verify_snapshot(str(tmp_path / "snapshots"))
