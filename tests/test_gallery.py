"""Galleries of real snapshots: any shards, prefixes, several snapshots, in memory and streamed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featureid
from featureid.errors import MixedModelsError, UsageError
from featureid.matching import single
from featureid.matching.eight_bits import EightBits
from featureid.matching.gallery import Gallery, Match
from featureid.storage import layout
from featureid.storage.records import EmbeddingRow, Face
from featureid.storage.selection import Selection
from tests.matching_samples import Matrix, brute_force, sample
from tests.storage_samples import make_info, make_row, write_rows

ROWS = 4000
KEYS = [f"{number % 7}/{number:05}.jpg" for number in range(ROWS)]


@pytest.fixture(scope="module")
def vectors() -> Matrix:
    return np.concatenate([sample("random", ROWS - 500, 16, 1), sample("tied", 500, 16, 2)])


@pytest.fixture(scope="module", params=[1, 5])
def out(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vectors: Matrix
) -> Path:
    place = tmp_path_factory.mktemp("gallery")
    write(place, KEYS, vectors, num_shards=request.param)
    return place


def write(place: Path, keys: Sequence[str], vectors: Matrix, num_shards: int = 3) -> None:
    rows = [
        EmbeddingRow(key, vector, bytes(32), 1, "", 1, 1)
        for key, vector in zip(keys, vectors, strict=True)
    ]
    write_rows(place, make_info(num_shards, dimension=vectors.shape[1]), rows)


@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_those_of_the_definition(out: Path, vectors: Matrix, stream: bool) -> None:
    queries = np.concatenate([vectors[:2], sample("tied", 3, 16, 3)])
    gallery = featureid.Gallery(out, stream=stream)
    keys, scores = gallery.search(queries, k=20)
    assert gallery.num_rows == ROWS
    for query, wanted in enumerate(brute_force(queries, vectors, KEYS)):
        assert keys[query] == [KEYS[row] for _, row in wanted[:20]]
        assert scores[query].tolist() == [score for score, _ in wanted[:20]]
        assert scores[query].dtype == np.float32
        (above,) = gallery.matches(queries[query], k=3, threshold=wanted[40][0])
        assert [hit.key for hit in above.hits] == keys[query][:3]
        assert above.total == sum(score >= wanted[40][0] for score, _ in wanted)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["random", "clustered", "tied"]),
    rows=st.integers(0, 120),
    num_shards=st.integers(1, 4),
    threads=st.integers(1, 3),
    stream=st.booleans(),
    k=st.integers(1, 30),
    batch=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_answers_do_not_depend_on_shards_threads_or_batches(
    kind: str,
    rows: int,
    num_shards: int,
    threads: int,
    stream: bool,
    k: int,
    batch: int,
    seed: int,
) -> None:
    gallery = sample(kind, rows, 8, seed)
    queries = np.concatenate([gallery[:2], sample(kind, 4, 8, seed + 1)])
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), KEYS[:rows], gallery, num_shards)
        searched = Gallery(place, stream=stream, threads=threads)
        for start in range(0, len(queries), batch):
            keys, scores = searched.search(queries[start : start + batch], k)
            for query, wanted in enumerate(
                brute_force(queries[start : start + batch], gallery, KEYS)
            ):
                assert keys[query] == [KEYS[row] for _, row in wanted[:k]]
                assert scores[query].tolist() == [score for score, _ in wanted[:k]]


@pytest.mark.parametrize("prefix", ["3/", "3/00", "0", "6/03996", "3/00003.jpg", "x", ""])
def test_a_prefix_selects_rows_and_reads_their_blocks_alone(
    out: Path, vectors: Matrix, prefix: str
) -> None:
    mine = [row for row, key in enumerate(KEYS) if key.startswith(prefix)]
    selection = Selection(featureid.open_snapshot(out), prefix)
    found = selection.values(layout.KEY, range(selection.num_rows))
    assert sorted(found) == sorted(KEYS[row] for row in mine)
    rows = {key: row for row, key in enumerate(KEYS)}
    np.testing.assert_array_equal(selection.vectors(), vectors[[rows[key] for key in found]])
    batches = [*selection.batches(100)]
    assert sum(map(len, batches)) == len(mine)
    (keys,), _ = Gallery(out, prefix).search(vectors[3], k=5)
    assert set(keys) <= {KEYS[row] for row in mine}
    assert len(keys) == min(5, len(mine))
    assert selection.count(KEYS[3]) == KEYS[3].startswith(prefix)
    assert selection.count("3/nowhere") == 0


def test_several_snapshots_are_one_gallery(tmp_path: Path, vectors: Matrix) -> None:
    write(tmp_path / "a", KEYS[:1000], vectors[:1000])
    write(tmp_path / "b", KEYS[500:1500], vectors[500:1500], num_shards=2)
    gallery = Gallery([tmp_path / "a", featureid.open_snapshot(tmp_path / "b")])
    (found,) = gallery.matches(vectors[700], k=2)
    assert gallery.num_rows == 2000
    assert [(hit.key, hit.snapshot) for hit in found.hits] == [(KEYS[700], 0), (KEYS[700], 1)]
    assert found.total == 2000
    assert gallery.count(KEYS[700]) == 2


def test_single_queries_by_eight_bits_are_those_of_the_definition(
    tmp_path: Path, vectors: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(single, "_if_faster", lambda rows, d: EightBits.of(rows.blocks, d))
    write(tmp_path / "a", KEYS[:1000], vectors[:1000])
    write(tmp_path / "b", KEYS[500:], vectors[500:], num_shards=2)
    gallery = Gallery([tmp_path / "a", tmp_path / "b"])
    for row in (0, 700, 3900, 3999):
        (found,) = gallery.matches(vectors[row], 20)
        assert found == gallery.matches(vectors[[row, row]], 20)[0]


def test_faces_have_their_index(tmp_path: Path) -> None:
    info = make_info(2, dimension=8, faces="dlib all min-face=20 no-face=skip")
    vectors = sample("random", 12, 8, 1)
    rows = [
        EmbeddingRow(
            f"{number // 3}.jpg", vector, bytes(32), 1, "", 1, 1, Face(number % 3, (0, 0, 9, 9))
        )
        for number, vector in enumerate(vectors)
    ]
    write_rows(tmp_path, info, rows)
    gallery = Gallery(tmp_path)
    (found,) = gallery.matches(vectors[4], k=1)
    assert found.hits == (Match("1.jpg", found.hits[0].score, 1, 0, found.hits[0].row),)
    assert gallery.count("1.jpg") == 3


def test_what_cannot_be_searched_is_refused(tmp_path: Path, out: Path, vectors: Matrix) -> None:
    gallery = Gallery(out)
    for arguments, message in (
        ({"k": 0}, "`k` is 0; give 1 or more"),
        ({"k": None}, "give `k`, `threshold`, or both"),
        ({"threshold": 1.5}, "`threshold` is 1.5; a score is from -1 to 1"),
    ):
        with pytest.raises(UsageError, match=message):
            gallery.search(vectors[0], **arguments)
    with pytest.raises(UsageError, match=r"floats of shape \(n, 16\)"):
        gallery.search(vectors[0, :8])
    with pytest.raises(UsageError, match="at least one snapshot"):
        Gallery([])
    write_rows(tmp_path, make_info(dimension=4), [make_row("a")])
    with pytest.raises(MixedModelsError, match="their dimension differs, image 16 and image 4"):
        Gallery([out, tmp_path])


def test_an_empty_snapshot_has_no_matches(tmp_path: Path) -> None:
    write_rows(tmp_path, make_info(dimension=4), [])
    for stream in (False, True):
        keys, scores = Gallery(tmp_path, stream=stream).search(sample("random", 2, 4, 1))
        assert keys == [[], []] and [len(some) for some in scores] == [0, 0]
