"""Vectors of other programs become a snapshot, or are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import ingest, layout, published
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import ModelInfo, SnapshotInfo
from featureid.storage.verify import verify_snapshot
from tests.storage_samples import ID, make_row, make_writer

KEYS = [f"{n}/é.jpg" for n in range(50)]
VECTORS = np.stack([make_row(key).vector for key in KEYS])


def info_of(num_shards: int = 3, dtype: str = "float32") -> SnapshotInfo:
    model = ModelInfo.unverified("theirs", 4, dtype)
    return SnapshotInfo(ID, "2026-11-23T05:42:31Z", "featureid test", model, num_shards)


def import_all(
    output: Path,
    keys: list[str] = KEYS,
    vectors: npt.NDArray[Any] = VECTORS,
    faces: list[int] | None = None,
    **options: Any,
) -> Snapshot:
    counted: list[int] = []
    attributes = {} if faces is None else {"face_index": np.array(faces, "<i4")}
    rows = ingest.Rows("x.npy", keys, vectors, attributes)
    ingest.import_snapshot(make_writer(output, info_of(**options)), rows, counted.append)
    assert sum(counted) == len(keys)
    return open_snapshot(str(output))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_vector_is_found_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(layout, "BLOCK_ROWS", 7)
    snap = import_all(tmp_path, dtype=dtype)
    for key, vector in zip(KEYS, VECTORS, strict=True):
        assert np.array_equal(snap[key], vector.astype(dtype))
    assert [spec.name for spec in snap.columns()] == ["key", "vector"]
    assert verify_snapshot(str(tmp_path)).ok
    assert (snap.model.name, snap.model.digest) == ("theirs", "unverified:theirs")


def test_many_faces_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK_ROWS", 4)
    keys = [key for key in KEYS[:10] for _ in range(5)]
    faces = [number for _ in range(10) for number in (3, 1, 4, 0, 2)]
    snap = import_all(tmp_path, keys, VECTORS, faces)
    rows = dict(zip(zip(keys, faces, strict=True), VECTORS, strict=True))
    found = zip(
        snap.row_keys(), np.asarray(snap.column("face_index")).tolist(), snap.vectors(), strict=True
    )
    for key, face, vector in found:
        assert np.array_equal(rows.pop((key, face)), vector)
    assert not rows
    assert snap.has_faces() and len(snap) == snap.manifest.counts.embedded == 10
    order = np.argsort(faces[:5])
    assert np.array_equal(snap[keys[0]], VECTORS[:5][order])
    assert all(vectors.shape == (5, 4) for vectors in snap.values())
    assert verify_snapshot(str(tmp_path)).ok


@pytest.mark.parametrize(
    ("keys", "vectors", "said"),
    [
        (["a", "b", "a"], VECTORS[:3], r"x\.npy: rows 0 and 2 \(from 0\) have .* key, 'a'"),
        (["a", "b"], VECTORS[:3], r"x\.npy has 3 vectors, but there are 2 keys"),
        (["b", "a"], VECTORS[:2] * [[1], [2]], r"x\.npy: row 1 \(from 0\), 'a': .* length 2, not"),
        (["a", "b"], np.full((2, 4), np.nan), r"row 0 \(from 0\), 'a': .* length nan, not 1"),
        (["a", "b"], np.full((2, 4), 1e300), "length inf, not 1; normalize"),
        (["a", "\ud800"], VECTORS[:2], "not valid Unicode"),
    ],
)
def test_a_failed_import_leaves_nothing(
    tmp_path: Path, keys: list[str], vectors: npt.NDArray[Any], said: str
) -> None:
    with pytest.raises(StorageError, match=said):
        import_all(tmp_path, keys, vectors, num_shards=1)
    assert not list(tmp_path.glob("snapshots/*"))


def test_one_face_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"rows 0 and 2 .* same key and face index, \('a', 1\)"):
        import_all(tmp_path, ["a", "a", "a"], VECTORS[:3], [1, 0, 1])


def test_vectors_that_were_rounded_to_float16_may_have_lost_length(tmp_path: Path) -> None:
    # 1.0013 long: more than a writer of float32 accepts, less than what a reader of float16 does.
    vector = np.array([[0.708, 0.708, 0, 0]], np.float16)
    assert np.array_equal(import_all(tmp_path, ["a"], vector, dtype="float16")["a"], vector[0])
    assert verify_snapshot(str(tmp_path)).ok
    with pytest.raises(StorageError, match="not 1"):
        import_all(tmp_path / "2", ["a"], vector.astype(np.float32), dtype="float16")


def npy(array: npt.NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "array", [VECTORS, VECTORS.astype(">f8"), np.asfortranarray(VECTORS), VECTORS[:0]]
)
def test_npy_files_of_every_kind(
    tmp_path: Path, array: npt.NDArray[Any], version: tuple[int, int]
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(array, version=version))
    assert np.array_equal(ingest.read_vectors(str(path)), array)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "bad magic"),
        (b"\x93NUMPY", "bad magic"),
        (npy(np.zeros(4, "f4")), r"shape is \(4,\)"),
        (npy(np.zeros((4, 4), "i4")), "numbers are '<i4'"),
        (npy(VECTORS)[:-1], r"has 927 bytes, but an array of shape \(50, 4\) takes 928"),
        (npy(VECTORS) + b"\0", "has 929 bytes, but"),
        (npy(VECTORS).replace(b"(50, 4)", b"(1<<9,)"), "not a .npy file"),
        (npy(VECTORS).replace(b"(50, 4), }   ", b"(10**9, 4), }"), "not a .npy file"),
        (npy(VECTORS).replace(b"(50, 4), }      ", b"(5000000, 4), } "), "takes 80000128"),
        (b"\x93NUMPY\x01\x00\xff\xff{ }", "header has 65535 bytes"),
        (b"\x93NUMPY\x01\x00\x05\x00((((((", "not a .npy file"),
    ],
)
def test_npy_files_that_lie_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=said) as caught:
        ingest.read_vectors(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("place", ["{}/x", "memory://bucket/x"])
def test_published_files_local_and_remote(tmp_path: Path, place: str) -> None:
    from featureid.storage import files

    data = published.write_multiple_embeddings(VECTORS, "float16")
    for name, content in ((".bin", data), (".bin.gz", published.compress_binary(data))):
        path = place.format(tmp_path) + name
        files.write_atomic(path, [content])
        found = ingest.read_vectors(path)
        assert np.array_equal(found, VECTORS.astype("float16"))
        with pytest.raises(CorruptFileError, match=f"{path}: "):
            files.write_atomic(path, [content[:-1]])
            ingest.read_vectors(path)


def test_keys_as_text_and_as_json_lines(tmp_path: Path) -> None:
    text, lines = tmp_path / "keys.txt", tmp_path / "keys.jsonl"
    text.write_bytes("a b\r\né,c\n\n".encode())
    assert ingest.read_keys(str(text)).keys == ["a b", "é,c", ""]
    text.write_bytes(b"")
    assert ingest.read_keys(str(text)).keys == []
    rows = [{"key": "a\nb", "face_index": 2}, {"key": "é", "face_index": 0, "later": 1}]
    lines.write_text("\n".join(map(json.dumps, rows)))
    found = ingest.read_keys(str(lines))
    assert found.keys == ["a\nb", "é"]
    assert np.asarray(found.attributes["face_index"]).tolist() == [2, 0]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"{",
        b"[]",
        b'"a"',
        b'{"key": 7}',
        b'{"key": "a"}\n\n{"key": "b"}',
        b'{"key": "a", "face_index": 1}\n{"key": "b"}',
        b'{"key": "a", "face_index": true}',
        b'{"key": "a", "face_index": 2147483648}',
        b'{"key": "a", "face_index": -2}',
        b'{"key": "\\udc80"}',
        b"[" * 100_000,
    ],
)
def test_keys_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "k.jsonl"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"k\.jsonl"):
        ingest.read_keys(str(path))
