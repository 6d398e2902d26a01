"""Rows of faces in storage: several rows a key, in order, and back."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import StorageError
from featureid.storage.files import RangeReader
from featureid.storage.layout import BLOCK_ROWS
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import WHOLE_IMAGE, EmbeddingRow, Face
from featureid.storage.shard import ShardEncoder, make_header, row_blocks, shard_of, write_shard
from featureid.storage.shard_reader import ShardMap
from featureid.storage.verify import verify_snapshot
from tests.storage_samples import make_info, make_row, write_rows, write_snapshot

FACES = "dlib all min-face=20 no-face=whole"
POINTS = ((12.5, 20.25), (30.0, 21.0), (20.0, 33.0))


def face_row(key: str, index: int) -> EmbeddingRow:
    """A row whose vector follows from its key and index."""
    left = 100.0 * index
    face = Face(index, (left, -5.5, left + 40, 60.0), POINTS[: index + 1], 0.5 + index)
    return replace(make_row(f"{key} {index}"), key=key, face=face)


def whole_row(key: str) -> EmbeddingRow:
    return replace(make_row(key), face=Face(WHOLE_IMAGE, (0.0, 0.0, 640.0, 480.0)))


ROWS = [
    face_row("b.jpg", 1),
    whole_row("whole.jpg"),
    face_row("a.jpg", 0),
    face_row("b.jpg", 0),
    face_row("b.jpg", 2),
]


@pytest.fixture(scope="module")
def snap(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    output = tmp_path_factory.mktemp("out")
    write_rows(output, make_info(2, faces=FACES), ROWS)
    return open_snapshot(str(output))


def test_rows_are_ordered_by_key_and_face(snap: Snapshot) -> None:
    found = list(zip(snap.row_keys(), np.asarray(snap.column("face_index")).tolist(), strict=True))
    assert sorted(found) == sorted(row.order for row in ROWS)
    assert found == sorted(found, key=lambda row: (shard_of(row[0], 2), row))
    assert (snap.num_rows, len(snap)) == (5, 3) and snap.manifest.counts.embedded == 3
    assert sum(shard.keys for shard in snap.manifest.embeddings) == 3
    assert snap.model.faces == FACES


def test_the_faces_of_an_image_come_back(snap: Snapshot) -> None:
    for key in ("a.jpg", "b.jpg"):
        wanted = sorted((row for row in ROWS if row.key == key), key=lambda row: row.order)
        for (face, vector), row in zip(snap.faces(key), wanted, strict=True):
            assert face == row.face
            np.testing.assert_array_equal(vector, row.vector)
            assert vector.dtype == np.float32


def test_a_whole_image_is_marked(snap: Snapshot) -> None:
    ((face, vector),) = snap.faces("whole.jpg")
    assert (face.index, face.box, face.landmarks) == (-1, (0, 0, 640, 480), ())
    assert math.isnan(face.score)
    np.testing.assert_array_equal([vector], snap["whole.jpg"])


def test_a_key_always_has_a_row_per_face(snap: Snapshot) -> None:
    assert snap.has_faces()
    assert {key: vectors.shape for key, vectors in snap.items()} == {
        "a.jpg": (1, 4),
        "b.jpg": (3, 4),
        "whole.jpg": (1, 4),
    }
    for key, vectors in snap.items():
        wanted = sorted((row for row in ROWS if row.key == key), key=lambda row: row.order)
        np.testing.assert_array_equal(vectors, [row.vector for row in wanted])
        np.testing.assert_array_equal(snap[key], vectors)
        assert snap[key].dtype == vectors.dtype == np.float32
    assert list(snap) == list(snap.keys()) == sorted(snap, key=snap.row_keys().index)
    assert "b.jpg" in snap and "c.jpg" not in snap
    with pytest.raises(KeyError, match=r"c\.jpg"):
        snap.faces("c.jpg")


def test_a_snapshot_of_whole_images_has_no_faces(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a.jpg"])
    with pytest.raises(StorageError, match="the model 'image', lack the columns face_index, box"):
        open_snapshot(str(tmp_path)).faces("a.jpg")


def test_verify_takes_several_rows_of_a_key(snap: Snapshot) -> None:
    report = verify_snapshot(snap.folder)
    assert report.ok and report.rows == 5


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(1, 5))
def test_no_block_splits_an_image(faces: list[int], block_rows: int) -> None:
    rows = [face_row(f"{n:03d}", index) for n, count in enumerate(faces) for index in range(count)]
    blocks = list(row_blocks(rows, make_info(faces=FACES), block_rows))
    keys = [list(block["key"]) for block in blocks]
    assert list(chain(*keys)) == [row.key for row in rows]
    for before, after in pairwise(keys):
        assert before[-1] != after[0] and len(before) >= block_rows


def test_an_image_may_have_more_faces_than_a_block_has_rows(tmp_path: Path) -> None:
    info = make_info(faces=FACES)
    rows = [face_row("crowd.jpg", index % 3) for index in range(3)]
    face = rows[0].face
    assert face
    crowd = [replace(rows[0], face=replace(face, index=n)) for n in range(BLOCK_ROWS + 9)]
    summary = write_shard(str(tmp_path), info, 0, [*crowd, face_row("z.jpg", 0)])
    assert (summary.rows, summary.keys) == (BLOCK_ROWS + 10, 2)
    with RangeReader(str(tmp_path / summary.file)) as source:
        assert [block.rows for block in ShardMap(source).index.blocks] == [BLOCK_ROWS + 9, 1]


@pytest.mark.parametrize(
    ("rows", "faces", "said"),
    [
        ([face_row("a", 0), face_row("a", 0)], FACES, r"duplicate row \('a', 0\)"),
        ([make_row("a")], FACES, "a: the row has no face, but the model 'image' takes faces"),
        ([face_row("a", 0)], "", "a: the row has a face, but the model 'image' takes whole images"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    rows: list[EmbeddingRow], faces: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match=said):
        write_shard(str(tmp_path), make_info(faces=faces), 0, rows)
    assert not list(tmp_path.iterdir())


def test_unsorted_faces_are_refused() -> None:
    info = make_info(faces=FACES)
    rows = [face_row("a", 1), face_row("a", 0)]
    encoder = ShardEncoder("x", make_header(info, 0, 2), row_blocks(rows, info, 8))
    with pytest.raises(StorageError, match="must be sorted"):
        list(encoder)


@pytest.mark.parametrize(
    "values",
    [
        {"index": -2},
        {"box": (5.0, 0.0, 5.0, 9.0)},
        {"box": (0.0, math.nan, 5.0, 9.0)},
        {"landmarks": POINTS * 2},
    ],
)
def test_what_is_no_face_is_refused(values: dict[str, object]) -> None:
    good = {"index": 0, "box": (0.0, 0.0, 1.0, 1.0)}
    with pytest.raises(StorageError, match="face"):
        Face(**{**good, **values})  # type: ignore[arg-type]
