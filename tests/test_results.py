"""Results of matching: published like snapshots, read back, and never mixed with something else."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

import featureid
from featureid.errors import CorruptFileError, MixedModelsError, StorageError, UsageError
from featureid.output_files import local_outputs
from featureid.storage import files
from featureid.storage.lifecycle import prune
from featureid.storage.manifest import encode_manifest
from featureid.storage.records import ModelInfo
from featureid.storage.results import (
    Kind,
    ResultColumn,
    ResultFile,
    ResultSource,
    ResultWriter,
    new_result_info,
    write_result_file,
)
from featureid.storage.run_record import RunRecord, read_run
from tests.commands import run_here
from tests.storage_samples import ID, write_snapshot

OLDER, NEWER = "20261122T010203Z-ffffff", "20261124T010203Z-000000"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
MODEL = ModelInfo("image", "ab" * 32, "cd" * 32, 4)
COLUMNS = (
    ResultColumn("query", "text"),
    ResultColumn("rank", "int32"),
    ResultColumn("row", "int64"),
    ResultColumn("score", "float32"),
    ResultColumn("kept", "bool"),
)
COUNTS = {"queries": 3}


def make_writer(
    output: Path, result: str = ID, kind: Kind = "matches", num_files: int = 1
) -> ResultWriter:
    source = ResultSource("/data/ids/snapshots/x", OLDER, 7, since=NEWER)
    info = new_result_info(
        kind, result, NOW, MODEL, {"query": source}, {"k": 10, "threshold": None}, COLUMNS
    )
    info = replace(info, num_files=num_files)
    return ResultWriter(str(output), info, RunRecord.begin(info, {}, {}))


def rows(names: str) -> dict[str, Any]:
    """Rows that follow from the letters of a text."""
    numbers = np.arange(len(names))
    return {
        "query": list(names),
        "rank": numbers.astype(np.int32),
        "row": numbers + (1 << 40),
        "score": np.sqrt(numbers, dtype=np.float32) / np.float32(7),
        "kept": numbers % 2 == 0,
    }


def write(writer: ResultWriter, *batches: str) -> list[ResultFile]:
    """Write each file from the letters of its batches, which are separated by spaces."""
    return [
        write_result_file(writer.folder, writer.info, number, map(rows, names.split()))
        for number, names in enumerate(batches)
    ]


def publish(output: Path, *batches: str, **options: Any) -> ResultWriter:
    writer = make_writer(output, num_files=max(1, len(batches)), **options)
    with writer.running():
        writer.commit(write(writer, *batches), COUNTS)
    return writer


def names(output: Path) -> str:
    return "".join(row["query"] for row in featureid.open_results(output))


def folders(output: Path) -> list[str]:
    return sorted(os.listdir(output / "results"))


def test_rows_come_back_in_order_and_to_the_bit(tmp_path: Path) -> None:
    writer = publish(tmp_path, "abc d", "", "ef")
    found = featureid.open_results(tmp_path)
    assert (found.folder, found.kind, len(found)) == (writer.folder, "matches", 6)
    assert found.manifest.info == writer.info and found.manifest.counts == COUNTS
    assert [summary.rows for summary in found.manifest.files] == [4, 0, 2]
    wanted = [
        dict(zip(rows(n), values, strict=True))
        for n in ("abc", "d", "ef")
        for values in zip(*rows(n).values(), strict=True)
    ]
    assert list(found) == wanted
    assert found.to_arrow().column("score").to_pylist() == [row["score"] for row in wanted]
    assert list(found.to_pandas()["query"]) == list("abcdef")


def test_a_file_says_what_it_is_to_any_reader_of_parquet(tmp_path: Path) -> None:
    writer = publish(tmp_path, "ab")
    (path,) = Path(writer.folder).glob("*.parquet")
    assert path.name == "matches-00000-of-00001.parquet"
    schema = pyarrow.parquet.read_schema(path)
    assert schema.names == [column.name for column in COLUMNS]
    texts = {name.decode(): text.decode() for name, text in schema.metadata.items()}
    assert texts["featureid.kind"] == "matches" and texts["featureid.result"] == ID
    assert texts["featureid.model_digest"] == MODEL.digest
    assert texts["featureid.query.snapshot"] == OLDER


def test_small_batches_share_a_row_group(tmp_path: Path) -> None:
    writer = publish(tmp_path, "ab " * 50)
    (path,) = Path(writer.folder).glob("*.parquet")
    assert pyarrow.parquet.ParquetFile(path).metadata.num_row_groups == 1


def test_what_is_not_committed_is_not_seen(tmp_path: Path) -> None:
    publish(tmp_path, "a", result=OLDER)
    writer = make_writer(tmp_path)
    writer.begin()
    written = write(writer, "b")
    assert names(tmp_path) == "a"
    with pytest.raises(StorageError, match="holds no complete result"):
        featureid.open_results(writer.folder)
    writer.commit(written, COUNTS)
    assert names(tmp_path) == "b"
    record = read_run(writer.folder)
    assert record is not None and record.state == "committed"
    assert record.counts == {**COUNTS, "rows": 1}


def test_every_step_may_be_retried(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for _ in range(2):
        writer.begin()
    first = writer.commit(write(writer, "ab"), COUNTS)
    assert writer.commit(write(writer, "ab"), COUNTS) == first
    writer.begin()
    writer.abort()
    assert names(tmp_path) == "ab"


@pytest.mark.parametrize("survivors", range(3))
def test_a_commit_that_fails_at_any_write_leaves_the_older_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    publish(tmp_path, "a", result=OLDER)
    writer = make_writer(tmp_path)
    writer.begin()
    written = write(writer, "b")
    real, calls = files.write_atomic, iter(range(99))

    def fail(uri: str, chunks: list[bytes]) -> int:
        if next(calls) >= survivors:
            raise StorageError("disk full")
        return real(uri, chunks)

    monkeypatch.setattr(files, "write_atomic", fail)
    with pytest.raises(StorageError, match="disk full"):
        writer.commit(written, COUNTS)
    assert names(tmp_path) == "a"
    monkeypatch.undo()
    writer.commit(written, COUNTS)
    assert names(tmp_path) == "b"


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "used", "a", result=OLDER)
    for name in ("used", "new"):
        writer = make_writer(tmp_path / name)
        with pytest.raises(KeyboardInterrupt), writer.running():
            write(writer, "b")
            raise KeyboardInterrupt
    assert folders(tmp_path / "used") == [OLDER] and not (tmp_path / "new").exists()


def test_nothing_is_published_when_a_file_is_short_or_left_out(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, num_files=2)
    writer.begin()
    written = write(writer, "a", "b")
    with pytest.raises(StorageError, match="The 1 files are not the 2 of the result"):
        writer.commit(written[:1], COUNTS)
    path = Path(writer.folder, written[1].file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"is not published\. Run it again"):
        writer.commit(written, COUNTS)
    with pytest.raises(StorageError, match="no complete result"):
        featureid.open_results(tmp_path)


def test_a_result_does_not_replace_something_else(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "snapshots_of_images", ["a"])
    with pytest.raises(UsageError, match=r"holds snapshots, .*; give another folder as `output`"):
        make_writer(tmp_path / "snapshots_of_images", NEWER).begin()
    publish(tmp_path / "out", "a", result=OLDER)
    with pytest.raises(UsageError, match="holds matches, not duplicates; give another `output`"):
        make_writer(tmp_path / "out", kind="duplicates").begin()
    writer = make_writer(tmp_path / "out")
    other = replace(writer.info, model=replace(MODEL, name="other", digest="ef" * 32))
    with pytest.raises(MixedModelsError, match=r"of the model 'image'; .* are of 'other'"):
        replace(writer, info=other).begin()
    with pytest.raises(UsageError, match="holds results of matching, not snapshots"):
        write_snapshot(tmp_path / "out", ["a"])
    assert names(tmp_path / "out") == "a" and folders(tmp_path / "out") == [OLDER]
    assert not (tmp_path / "out" / "snapshots").exists()


def test_a_folder_that_is_merely_called_so_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "2026.csv").touch()
    write_snapshot(tmp_path, ["a"])
    assert featureid.open_snapshot(tmp_path).row_keys() == ["a"]


def test_readers_of_one_kind_refuse_the_other(tmp_path: Path) -> None:
    writer = publish(tmp_path / "out", "a")
    write_snapshot(tmp_path / "ids", ["a"])
    with pytest.raises(StorageError, match="holds results of matching, not snapshots"):
        featureid.open_snapshot(tmp_path / "out")
    with pytest.raises(CorruptFileError, match="its format is 'featureid-results'"):
        featureid.open_snapshot(writer.folder)
    with pytest.raises(StorageError, match="holds snapshots, not results"):
        featureid.open_results(tmp_path / "ids")
    with pytest.raises(StorageError, match=r"does not exist; check the spelling"):
        featureid.open_results(tmp_path / "nowhere")


def test_damage_is_found(tmp_path: Path) -> None:
    writer = publish(tmp_path, "abc")
    (path,) = Path(writer.folder).glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="its SHA-256 is not that of the manifest"):
        list(featureid.open_results(tmp_path))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"counts": {"queries": 4}}, "was changed after it was written"),
        ({"kind": "groups"}, "kind"),
        ({"num_files": 2}, "The 1 files are not the 2 of the result"),
        ({"files": [{"file": "../x", "rows": 0, "bytes": 0, "sha256": ""}]}, "are not the 1"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, change: dict[str, Any], error: str) -> None:
    writer = publish(tmp_path, "a")
    place = Path(writer.folder, "manifest.json")
    fields = {**json.loads(place.read_bytes()), **change}
    if "counts" not in change:
        del fields["digest"]
    place.write_bytes(
        json.dumps(fields).encode() if "digest" in fields else encode_manifest(fields)
    )
    with pytest.raises(CorruptFileError, match=error):
        featureid.open_results(tmp_path)


@pytest.mark.parametrize("place", ["out", "out/results/" + ID])
def test_rows_are_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str) -> None:
    publish(tmp_path / "out", "ab", "", "c")
    wanted = list(featureid.open_results(tmp_path / "out"))
    for name in ("rows.jsonl", "rows.parquet"):
        to = name.partition(".")[2]
        out = run_here(capsys, "export", tmp_path / place, "--to", to, tmp_path / name, "--json")
        printed = json.loads(out)
        assert (printed["result"], printed["rows"]) == (ID, 3)
        assert printed["files"][0]["bytes"] == (tmp_path / name).stat().st_size
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == wanted
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table.to_pylist() == wanted and table.schema.metadata[b"featureid.result"] == ID.encode()
    line = run_here(capsys, "export", tmp_path / place, "--to=npy", tmp_path / "x.npy", status=2)
    assert "cannot be written as npy; give jsonl or parquet as --to" in line


def test_inspect_shows_what_a_result_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = publish(tmp_path, "ab", "c")
    shown = json.loads(run_here(capsys, "inspect", tmp_path, "--json"))
    assert (shown["result"], shown["folder"], shown["kind"]) == (ID, writer.folder, "matches")
    assert (shown["rows"], shown["queries"], shown["options"]["k"]) == (3, 3, 10)
    text = run_here(capsys, "inspect", writer.folder, "--max-age=100000d")
    assert f"query         /data/ids/snapshots/x, 7 rows, new since {NEWER}\n" in text
    assert "options       k 10\n" in text and "3 matches, " in text
    place = Path(writer.folder)
    assert f"{place} is" in run_here(capsys, "inspect", tmp_path, "--max-age=0s", status=1)
    line = run_here(capsys, "inspect", tmp_path, "--keys", status=2)
    assert "holds a result of matching: leave out --keys" in line


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for result in (OLDER, ID, NEWER):
        publish(tmp_path, "a", result=result)
    assert prune(str(tmp_path), 2, NOW, timedelta(days=1)) == [OLDER]
    assert folders(tmp_path) == [ID, NEWER]


def test_its_files_are_not_taken_for_images(tmp_path: Path) -> None:
    writer = publish(tmp_path, "a")
    hidden = local_outputs("", str(tmp_path))
    for path in (*Path(writer.folder).iterdir(), tmp_path / "current"):
        assert hidden.hide(str(path)), path
    assert not hidden.hide(str(tmp_path / "results" / "a.jpg"))
