"""Parquet files become a snapshot: those of export to the last bit, those of others if they fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.cli import main as cli
from featureid.errors import CorruptFileError, FeatureIdError, UsageError
from featureid.keys import ImageLocations
from featureid.storage import export, files, layout
from featureid.storage.ingest_parquet import read_parquet
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import EmbeddingRow, Face
from featureid.storage.run_record import read_run
from featureid.storage.verify import verify_snapshot
from tests.storage_samples import make_hash, make_info, make_row, write_rows

FACES = "dlib all min-face=20 no-face=whole-image"
KEYS = [f"{n}/é.jpg" for n in range(20)]
VECTORS = np.stack([make_row(key).vector for key in KEYS])


def faces_of(key: str) -> list[EmbeddingRow]:
    """Rows of an image with no to three faces."""
    row = make_row(key)
    boxes = [(10.5 * n - 3, 1 / 3, 10.5 * n + 9, 30.0) for n in range(row.width % 4)]
    if not boxes:
        return [replace(row, face=Face(-1, (0.0, 0.0, 640.0, 480.0)))]
    points = ((1.5, 2.25), (3.1, 4.0))
    faces = [Face(n, box, points[:n], 0.1 * n) for n, box in enumerate(boxes)]
    vectors = [make_row(f"{key}#{face.index}").vector for face in faces]
    return [replace(row, face=f, vector=v) for f, v in zip(faces, vectors, strict=True)]


def write(output: Path, keys: list[str], dtype: str, faces: str, root: str = "") -> Snapshot:
    info = make_info(3, dtype=dtype, faces=faces)
    info = replace(info, locations=ImageLocations(root))
    rows = [row for key in keys for row in (faces_of(key) if faces else [make_row(key)])]
    write_rows(output, info, rows)
    return open_snapshot(str(output))


def test_hashes_come_back(tmp_path: Path) -> None:
    info = make_info(3)
    info = replace(info, model=replace(info.model, hash="pdq"))
    write_rows(tmp_path / "out", info, [replace(make_row(k), hash=make_hash(k)) for k in KEYS])
    before = open_snapshot(tmp_path / "out")
    after = there_and_back(before, str(tmp_path / "x.parquet"), tmp_path / "back")
    assert after.model == before.model and contents(after) == contents(before)
    assert after.shard(0).columns() == before.shard(0).columns()
    assert [row.hash for shard in after.shards() for row in shard.rows()] == [
        make_hash(key) for shard in after.shards() for key in shard.row_keys()
    ]


def bits(value: Any) -> Any:
    return value if isinstance(value, str) else (value.dtype.str, value.shape, value.tobytes())


def contents(snapshot: Snapshot) -> dict[tuple[str, int], dict[str, Any]]:
    """Every row by key and face index: all columns, bit for bit."""
    found = {}
    for shard in snapshot.shards():
        with shard.open() as (shard_map, source):
            for block in range(len(shard_map.index.blocks)):
                names = [spec.name for spec in shard_map.header.columns]
                columns = [shard_map.values(source, block, name) for name in names]
                for values in zip(*columns, strict=True):
                    row = dict(zip(names, values, strict=True))
                    name = row["key"], int(row.get("face_index", 0))
                    found[name] = {
                        n: (v.dtype.str, v.shape, v.tobytes())
                        if isinstance(v, np.generic | np.ndarray)
                        else v
                        for n, v in row.items()
                    }
    return found


def there_and_back(snapshot: Snapshot, place: str, output: Path, *options: str) -> Snapshot:
    export.export_parquet(snapshot, place, lambda _: None)
    assert cli.main(["import", place, "--output", str(output), *options]) == 0
    assert verify_snapshot(str(output)).ok
    back = open_snapshot(str(output))
    record = read_run(back.folder)
    assert record and record.options["exported_from"] == snapshot.manifest.info.snapshot
    return back


@pytest.mark.parametrize(
    "place", ["{}/x.parquet", "memory://bucket/x.parquet", "file://{}/x.PARQUET"]
)
@pytest.mark.parametrize("faces", ["", FACES])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_exported_file_comes_back_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, faces: str, place: str
) -> None:
    monkeypatch.setattr(layout, "BLOCK_ROWS", 4)
    monkeypatch.setattr(export, "BATCH_ROWS", 8)
    monkeypatch.setattr("featureid.storage.ingest_parquet._BATCH_ROWS", 5)
    snapshot = write(tmp_path / "out", KEYS, dtype, faces, "/photos/é")
    back = there_and_back(snapshot, place.format(tmp_path), tmp_path / "back", "--num-shards=2")
    assert contents(back) == contents(snapshot)
    assert back.model == snapshot.model
    assert back.columns() == snapshot.columns()
    assert back.manifest.info.locations == ImageLocations("/photos/é")
    assert back.folder != snapshot.folder
    if faces:
        found, expected = back.faces(KEYS[0]), snapshot.faces(KEYS[0])
        assert repr(found) == repr(expected)  # as text, since NaN differs from itself


@settings(max_examples=30, deadline=None)
@given(
    keys=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_any_keys_come_back(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], dtype: str
) -> None:
    folder = tmp_path_factory.mktemp("keys")
    snapshot = write(folder / "out", keys, dtype, "")
    back = there_and_back(snapshot, str(folder / "x.parquet"), folder / "back")
    assert contents(back) == contents(snapshot)


def test_metadata_are_read_by_pyarrow_and_duckdb(tmp_path: Path) -> None:
    import duckdb

    snapshot = write(tmp_path / "out", KEYS, "float16", FACES, "/p")
    path = str(tmp_path / "x.parquet")
    export.export_parquet(snapshot, path, lambda _: None)
    found = pq.read_schema(path).metadata
    assert {name.decode(): value.decode() for name, value in found.items()} == {
        "featureid.snapshot": snapshot.manifest.info.snapshot,
        "featureid.created": "2026-11-23T05:42:31Z",
        "featureid.writer": "featureid test",
        "featureid.model": "image",
        "featureid.model_digest": "ab" * 32,
        "featureid.preprocessing_digest": "cd" * 32,
        "featureid.dimension": "4",
        "featureid.dtype": "float16",
        "featureid.faces": FACES,
        "featureid.root": "/p",
    }
    rows = duckdb.execute(f"select key, value from parquet_kv_metadata('{path}')").fetchall()
    assert {name: value for name, value in rows if name.startswith(b"featureid.")} == found
    assert found == snapshot.to_arrow().schema.metadata


def save(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


LISTS = {
    "list": pa.list_,
    "large list": pa.large_list,
    "fixed-size list": lambda kind: pa.list_(kind, 4),
}


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("as_list", LISTS)
def test_files_of_others(tmp_path: Path, as_list: str, kind: pa.DataType) -> None:
    numbers = VECTORS.astype(kind.to_pandas_dtype())
    vectors = pa.array(list(numbers), LISTS[as_list](kind))
    path = save(
        tmp_path / "x.parquet", id=pa.array(KEYS).dictionary_encode(), emb=vectors, label=[1] * 20
    )
    assert cli.main(["import", path, "--output", str(tmp_path / "out"), "--model=theirs"]) == 0
    snapshot = open_snapshot(tmp_path / "out")
    assert snapshot.model.digest == "unverified:theirs"
    assert snapshot.model.dtype == ("float16" if kind == pa.float16() else "float32")
    assert {key: vector.tolist() for key, vector in snapshot.items()} == {
        key: vector.tolist() for key, vector in zip(KEYS, numbers.astype(np.float32), strict=True)
    }
    assert [spec.name for spec in snapshot.columns()] == ["key", "vector"]
    assert verify_snapshot(str(tmp_path / "out")).ok


def test_pandas_polars_and_duckdb_write_what_comes_back(tmp_path: Path) -> None:
    import duckdb

    snapshot = write(tmp_path / "out", KEYS, "float32", FACES)
    path = str(tmp_path / "x.parquet")
    export.export_parquet(snapshot, path, lambda _: None)

    def by_pandas(to: str) -> None:
        snapshot.to_pandas().to_parquet(to)

    def by_polars(to: str) -> None:
        import polars

        polars.read_parquet(path).write_parquet(to)

    def by_duckdb(to: str) -> None:
        duckdb.sql(f"copy (from '{path}') to '{to}' (format parquet)")

    for number, write_again in enumerate((by_pandas, by_polars, by_duckdb)):
        again, output = str(tmp_path / f"{number}.parquet"), str(tmp_path / f"{number}")
        write_again(again)
        assert cli.main(["import", again, "--output", output, "--model=m"]) == 0, write_again
        back = open_snapshot(output)
        assert contents(back) == contents(snapshot)
        assert repr(back.faces(KEYS[0])) == repr(snapshot.faces(KEYS[0]))


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    vectors = list(VECTORS)
    texts = {"a": KEYS, "b": KEYS[::-1], "n": range(20)}
    path = save(tmp_path / "x.parquet", **texts, **{"v.w": vectors, "w": vectors})
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "several columns of vectors .lists of floats.: 'v.w', 'w'; name one with `vector_c"),
        ({"vector_column": "w"}, "several columns of keys .texts.: 'a', 'b'; name one with `key_c"),
        ({"vector_column": "vw"}, r"no column 'vw'; did you mean 'v\.w'\?; it has 'a' \(string\)"),
        ({"vector_column": "a"}, "column 'a' is string, not vectors"),
        ({"vector_column": "w", "key_column": "v.w"}, "column 'v.w' is list.* not keys"),
    ]
    for options, said in wrong:
        with pytest.raises(UsageError, match=said):
            read_parquet(path, **options)
    found = read_parquet(path, "b", "v.w")
    assert found.rows.keys == KEYS[::-1] and found.left_out == ("a", "n", "w")
    assert found.origin is None
    assert read_parquet(path, "n", "w").rows.keys == [str(n) for n in range(20)]
    numbered = read_parquet(path, vector_column="w", number_rows=True)
    assert numbered.rows.keys == [str(n) for n in range(20)]
    path = save(tmp_path / "y.parquet", key=KEYS, other=KEYS, vector=vectors, w=vectors)
    assert read_parquet(path).rows.keys == KEYS
    with pytest.raises(UsageError, match=r"no column of keys .texts.; it has 'w'"):
        read_parquet(save(tmp_path / "z.parquet", w=vectors))
    table = pa.table([pa.array(KEYS), pa.array(KEYS), pa.array(vectors)], ["key", "key", "w"])
    pq.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(UsageError, match="several columns 'key'"):
        read_parquet(str(tmp_path / "twice.parquet"))


GOOD = {"key": ["a", "b"], "vector": [[1.0, 0], [0, 1.0]]}
BOX = [[0.0, 0.0, 9.0, 9.0]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"key": ["a", None]}, r"row 1 \(from 0\): column 'key' has a null"),
        ({"vector": [[1.0, 0], None]}, r"row 1 \(from 0\), 'b': column 'vector' has a null"),
        ({"vector": [[1.0, 0], [1.0, None]]}, r"row 1 \(from 0\), 'b': column 'vector' has a null"),
        ({"vector": [[1.0, 0], [1.0]]}, r"row 1 \(from 0\), 'b': .* has 1 values where 2 are"),
        ({"vector": [[], [1.0]]}, r"row 0 \(from 0\), 'a': column 'vector' is an empty list"),
        ({"vector": [[1.0, 0], [np.nan, 0]]}, r"row 1 \(from 0\), 'b': .* length nan, not 1"),
        ({"vector": [[1.0, 0], [3.0, 4]]}, r"row 1 \(from 0\), 'b': the .* length 5, not 1"),
        ({"vector": [[1.0, 0], [1e300, 0]]}, r"row 1 \(from 0\), 'b': .* length inf, not 1"),
        ({"key": ["b", "b"]}, r"rows 0 and 1 \(from 0\) have the same key, 'b'"),
        ({"sha256": [bytes(32), b"short"]}, r"row 1 .* 'b': column 'sha256' has 5 bytes, not 32"),
        ({"width": [7, None]}, r"row 1 \(from 0\), 'b': column 'width' has a null"),
        ({"width": [7, 1 << 31]}, r"row 1 \(from 0\), 'b': column 'width' does not fit int32"),
        ({"face_index": [0, -2]}, r"row 1 \(from 0\), 'b': column 'face_index' is below -1"),
        ({"face_index": [0, 0], "box": [*BOX, [0.0, 9, 9, 0]]}, "box' is not left, top"),
        ({"face_index": [0, 0], "box": [*BOX, [0.0, 0, np.nan, 9]]}, "box' is not left, top"),
        ({"face_index": [0, 0], "box": [*BOX, [0.0]]}, r"row 1 .* has 1 values where 4 are"),
        ({"face_index": [0, 0], "landmarks": [[[1.0, 2]] * 5, [[1.0]] * 5]}, "row 1 .* has 1 val"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_named_and_nothing_is_left(
    tmp_path: Path, columns: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:

    path = save(
        tmp_path / "x.parquet", **{"key": ["a", "b"], "vector": [[1.0, 0], [0, 1.0]], **columns}
    )
    output = tmp_path / "out"
    assert cli.main(["import", path, "--output", str(output), "--model=m"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"featureid: {path}: ") and err.count("\n") == 1
    assert re.search(said, err), err
    assert not output.exists()


def test_attributes_of_another_type_are_refused(tmp_path: Path) -> None:
    for name, values in [
        ("width", ["7", "8"]),
        ("sha256", ["7", "8"]),
        ("source_size", [1.5, 2.5]),
        ("source_version", [1, 2]),
    ]:
        path = save(tmp_path / "x.parquet", **GOOD, **{name: values})
        with pytest.raises(UsageError, match=f"column '{name}' is .* rename it or leave it out"):
            read_parquet(path)
    # Of faces without a face_index: another program's own.
    path = save(tmp_path / "x.parquet", **GOOD, score=["high", "low"])
    assert read_parquet(path).left_out == ("score",)


def test_metadata_that_promise_faces_need_their_columns(tmp_path: Path) -> None:
    snapshot = write(tmp_path / "out", KEYS, "float32", FACES)
    table = snapshot.to_arrow()
    pq.write_table(table.drop_columns(["box", "score"]), tmp_path / "x.parquet")
    with pytest.raises(CorruptFileError, match="its rows are faces, but it has no box, score"):
        read_parquet(str(tmp_path / "x.parquet"))
    for name in (b"featureid.model", b"featureid.dtype"):
        rest = {key: value for key, value in table.schema.metadata.items() if key != name}
        for metadata in (rest, {**rest, name: b"\xff"}, {**rest, b"featureid.dtype": b"int8"}):
            pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "x.parquet")
            assert read_parquet(str(tmp_path / "x.parquet")).origin is None


def test_files_that_are_damaged_or_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    snapshot = write(tmp_path / "out", KEYS, "float32", "")
    export.export_parquet(snapshot, str(path), lambda _: None)
    whole = path.read_bytes()
    for data in (b"", b"\x93NUMPY", whole[:-1], whole[:4] + bytes(400) + whole[404:]):
        path.write_bytes(data)
        with pytest.raises(CorruptFileError, match=r"x\.parquet cannot be read as Parquet"):
            read_parquet(str(path))
    path.unlink()
    with pytest.raises(FeatureIdError, match="No such file"):
        read_parquet(str(path))
    path.mkdir()
    with pytest.raises(FeatureIdError, match="Is a directory"):
        read_parquet(str(path))


@pytest.mark.parametrize("claimed", [19, 21])
def test_a_footer_with_another_number_of_rows(tmp_path: Path, claimed: int) -> None:
    path = save(tmp_path / "x.parquet", key=KEYS, vector=list(VECTORS))
    data = bytearray(Path(path).read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # The first 20 in the footer, zigzag-encoded as 40, after the type of its field.
    data[data.index(b"\x16\x28", footer) + 1] = 2 * claimed
    Path(path).write_bytes(data)
    assert pq.ParquetFile(path).metadata.num_rows == claimed
    with pytest.raises(CorruptFileError, match=f"footer says {claimed} rows"):
        read_parquet(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "out")]
    path = save(tmp_path / "x.parquet", name=KEYS, v=list(VECTORS), label=[1] * 20)
    np.save(tmp_path / "x.npy", VECTORS)
    vectors = pa.array([], pa.list_(pa.float32()))
    none = save(tmp_path / "0.parquet", key=pa.array([], pa.string()), vector=vectors)
    for argv, said in [
        ([path, *output], "does not name the model of its vectors"),
        ([path, *output, "--model=m", "--keys=k.txt"], "--keys is for .npy, .bin, .bin.gz files"),
        ([str(tmp_path / "x.npy"), *output, "--key-column=a"], "--key-column is for .parquet"),
        ([path, *output, "--model=m", "--key-column=names"], "did you mean 'name'?"),
        ([none, *output, "--model=m"], "holds no vectors"),
    ]:
        assert cli.main(["import", *argv]) == 2, argv
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()
    assert cli.main(["import", path, *output, "--model=m"]) == 0
    out = capsys.readouterr().out
    assert "20 rows of m (unverified)\nleft out, as snapshots have no such columns: label\n" in out
    argv = ["import", path, *output, "--model=m", "--number-rows", "--dtype=float16", "--json"]
    assert cli.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["left_out"] == ["name", "label"] and found["exported_from"] is None
    assert found["model"]["dtype"] == "float16"
    assert set(open_snapshot(found["folder"])) == set(map(str, range(20)))


def test_the_model_of_an_exported_file_can_be_named(tmp_path: Path) -> None:
    snapshot = write(tmp_path / "out", KEYS, "float16", FACES, "/photos")
    place = str(tmp_path / "x.parquet")
    back = there_and_back(snapshot, place, tmp_path / "back", "--model=edited")
    assert back.model.digest == "unverified:edited" and back.model.dtype == "float16"
    assert contents(back) == contents(snapshot)
    assert back.uri(KEYS[0]) == f"/photos/{KEYS[0]}"
    other = there_and_back(snapshot, place, tmp_path / "2", "--dtype=float32")
    assert other.model == replace(snapshot.model, dtype="float32")
    assert files.exists(place)
