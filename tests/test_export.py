"""Snapshots in the formats of others, read by the others."""

from __future__ import annotations

import json
import re
import struct
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featureid.cli import main as cli
from featureid.errors import StorageError, UsageError
from featureid.storage import export, layout
from featureid.storage import gzip_members as gm
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import Face
from tests.golden import make_published
from tests.storage_samples import make_hash, make_info, make_row, write_rows, write_snapshot

FORMAT = Path(__file__).parents[1] / "docs" / "format.md"

KEYS = [f"{n}/é\n.jpg" if n % 7 else f"{n}" for n in range(100)]


@pytest.fixture(params=["float32", "float16"])
def snap(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Snapshot:
    monkeypatch.setattr(layout, "BLOCK_ROWS", 8)
    monkeypatch.setattr(export, "BATCH_ROWS", 30)
    write_snapshot(tmp_path / "out", KEYS, dtype=request.param)
    return open_snapshot(str(tmp_path / "out"))


def exported(snap: Snapshot, kind: str, name: str) -> Path:
    counted: list[int] = []
    path = Path(snap.folder).parents[2] / name
    export.EXPORTS[kind](snap, str(path), counted.append)
    assert sum(counted) == len(snap)
    if kind != "parquet":
        with open(export.keys_path(str(path)), encoding="utf-8") as lines:
            assert [json.loads(line) for line in lines] == [{"key": key} for key in snap.row_keys()]
    return path


def test_npy(snap: Snapshot) -> None:
    array = np.load(exported(snap, "npy", "x.npy"), allow_pickle=False)
    assert array.dtype == np.float32
    assert np.array_equal(array, snap.vectors())


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_published(snap: Snapshot, engine: gm.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr(gm, "engine", engine)
    data = exported(snap, "published", "x.bin").read_bytes()
    stored = snap.vectors().astype(snap.model.dtype)
    assert data == make_published.write_multiple(list(stored))
    assert gzip.decompress(exported(snap, "published", "x.bin.gz").read_bytes()) == data
    assert struct.unpack_from("<I", data) == (100,)


def test_faiss(snap: Snapshot) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types have no module
        faiss = pytest.importorskip("faiss")
        index = faiss.read_index(str(exported(snap, "faiss", "x.faiss")))
    vectors = snap.vectors()
    scores, rows = index.search(vectors, 1)
    assert rows[:, 0].tolist() == list(range(100))
    assert np.allclose(scores, 1, atol=2e-3)


def test_parquet_is_read_by_pyarrow_duckdb_and_polars(snap: Snapshot) -> None:
    import duckdb
    import polars
    import pyarrow as pa
    import pyarrow.parquet

    path = exported(snap, "parquet", "x.parquet")
    vectors = snap.vectors()
    table = pyarrow.parquet.read_table(path)
    assert table.schema.field("vector").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), 4
    )
    assert table.schema.metadata[b"featureid.model_digest"] == b"ab" * 32
    assert table == snap.to_arrow()
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(flat.reshape(-1, 4), vectors)
    assert table["sha256"].to_pylist() == [
        bytes(value) for value in np.asarray(snap.column("sha256"))
    ]
    assert pyarrow.parquet.ParquetFile(path).num_row_groups > 1

    columns = "key, vector, sha256, source_size, source_version, width, height"
    relation = duckdb.sql(f"select {columns} from '{path}'")
    assert relation is not None
    rows = relation.fetchall()
    frame = polars.read_parquet(path)
    assert frame["vector"].dtype == polars.Array(polars.Float32, 4)
    for name, values in zip(columns.split(", "), zip(*rows, strict=True), strict=True):
        found, other = list(values), frame[name].to_list()
        if name == "vector":
            found, other = [list(vector) for vector in found], [list(vector) for vector in other]
        assert found == other == table[name].to_pylist()


def test_the_documents_list_every_column_and_its_types(tmp_path: Path) -> None:
    import duckdb
    import polars

    info = make_info(dimension=128, faces="dlib all min-face=20 no-face=skip")
    info = replace(info, model=replace(info.model, hash="pdq"))
    row = replace(make_row("a", 128), face=Face(0, (0, 0, 9, 9)), hash=make_hash("a"))
    write_rows(tmp_path / "out", info, [row])
    path = exported(open_snapshot(tmp_path / "out"), "parquet", "x.parquet")
    described = duckdb.execute(f"describe from '{path}'").fetchall()
    in_duckdb = {name: kind for name, kind, *_ in described}
    schema = polars.read_parquet_schema(path)
    in_polars = {name: re.sub(r"shape=|,(?=\))", "", str(kind)) for name, kind in schema.items()}
    in_polars = {name: re.sub(r"\((\d+)\)", r"\1", kind) for name, kind in in_polars.items()}
    chapter = FORMAT.read_text(encoding="utf-8").partition("## 11. Parquet files")[2]
    rows = re.findall(r"^\| (.*?) \| .* \| `(.*)` \| `(.*)` \| .* \|$", chapter, re.MULTILINE)
    listed = [(name, *types) for names, *types in rows for name in re.findall(r"`(\w+)`", names)]
    assert [(name, in_duckdb[name], in_polars[name]) for name in in_duckdb] == listed


def test_pandas(snap: Snapshot) -> None:
    frame = snap.to_pandas()
    assert frame["key"].tolist() == snap.row_keys()
    assert np.array_equal(np.stack(frame["vector"]), snap.vectors())
    assert frame["width"].tolist() == np.asarray(snap.column("width")).tolist()


@pytest.mark.parametrize("kind", export.EXPORTS)
def test_an_empty_snapshot(tmp_path: Path, kind: str) -> None:
    write_snapshot(tmp_path / "out", [])
    path = exported(open_snapshot(str(tmp_path / "out")), kind, f"x.{kind}")
    assert path.stat().st_size > 0


def test_a_damaged_snapshot_leaves_no_export(snap: Snapshot, tmp_path: Path) -> None:
    shard = next(Path(snap.folder).glob("embeddings-00002*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    for kind in export.EXPORTS:
        with pytest.raises(StorageError, match="embeddings-00002"):
            export.EXPORTS[kind](snap, str(tmp_path / kind), lambda _: None)
        assert not list(tmp_path.glob(f"*{kind}*"))


@pytest.mark.parametrize("kind", [kind for kind in export.EXPORTS if kind != "parquet"])
def test_vectors_and_keys_are_written_together(snap: Snapshot, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("faiss" if kind == "faiss" else "numpy")
    path = tmp_path / "x"
    (tmp_path / "x.keys.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"x\.keys\.jsonl: Is a directory"):
        export.EXPORTS[kind](snap, str(path), lambda _: None)
    assert not path.exists()
    (tmp_path / "x.keys.jsonl").rmdir()
    path.mkdir()
    with pytest.raises(StorageError, match="x: Is a directory"):
        export.EXPORTS[kind](snap, str(path), lambda _: None)
    assert not (tmp_path / "x.keys.jsonl").exists()


def test_a_missing_package_is_named(
    snap: Snapshot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pip install 'featureid\[search\]'"):
        export.export_faiss(snap, str(tmp_path / "x"), lambda _: None)
    with pytest.raises(UsageError, match="pip install 'pandas'"):
        snap.to_pandas()


def test_commands_there_and_back(
    snap: Snapshot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, back = str(tmp_path / "out"), str(tmp_path / "back")
    for kind, name in (("npy", "x.npy"), ("published", "x.bin"), ("published", "x.bin.gz")):
        path = str(tmp_path / name)
        assert cli.main(["export", output, "--to", kind, path, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["rows"] == 100
        assert [file["file"] for file in said["files"]] == [path, f"{path}.keys.jsonl"]
        argv = ["import", path, "--output", back, "--model", "same", "--num-shards", "3", "--json"]
        assert cli.main(argv) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["model"]["digest"] == "unverified:same"
        copy = open_snapshot(said["folder"])
        assert copy.row_keys() == snap.row_keys()
        assert np.array_equal(copy.vectors(), snap.vectors())
        assert cli.main(["verify", said["folder"]]) == 0
        capsys.readouterr()
    other = str(tmp_path / "other")
    argv = ["import", path, "--output", other, "--model", "same", "--number-rows"]
    assert cli.main(argv) == 0
    assert sorted(open_snapshot(other).row_keys()) == sorted(map(str, range(100)))


def test_wrong_use_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.bin").write_bytes(make_published.write_multiple([np.ones(1, np.float32)]))
    (tmp_path / "none.bin").write_bytes(bytes(4))
    x, out = str(tmp_path / "x.bin"), ["--output", str(tmp_path / "out"), "--model", "m"]
    for argv, status, message in [
        (["export", str(tmp_path), "--to", "npy", "x.npy"], 1, "no complete snapshot"),
        (["export", str(tmp_path), "--to", "csv", "x"], 2, "invalid choice: 'csv'"),
        (["export", str(tmp_path), "--to", "npy", ""], 2, "PATH is empty"),
        (["import", x, *out], 2, "x.bin.keys.jsonl does not exist"),
        (["import", x, *out, "--number-rows", "--num-shards", "0"], 2, "--num-shards is 0"),
        (["import", str(tmp_path / "x.csv"), *out], 2, "must end in"),
        (["import", str(tmp_path / "y.bin"), *out], 1, "No such file"),
        (["import", str(tmp_path / "none.bin"), *out, "--number-rows"], 2, "holds no vectors"),
        (["import", x, *out, "--keys", str(tmp_path / "k.txt")], 1, "No such file"),
        (["import", x, "--output", "o", "--model", "", "--number-rows"], 2, "--model is empty"),
    ]:
        assert cli.main(argv) == status, argv
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
