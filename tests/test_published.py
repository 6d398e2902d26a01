"""The published layouts, byte for byte; lengths that lie refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members as gm
from featureid.storage import published
from tests.golden import make_published

GOLDEN = Path(__file__).parent / "golden"
DTYPES = ("float32", "float16")
finite = {"allow_nan": False, "allow_infinity": False}


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_golden_files_are_read_and_written_byte_for_byte(
    dtype: str, engine: gm.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gm, "engine", engine)
    wanted = np.stack(make_published.vectors(dtype))
    single = golden(f"single_{dtype}.bin")
    assert published.embedding_to_binary(wanted[0], dtype) == single
    assert np.array_equal(published.binary_to_embedding(single, dtype), wanted[0])
    metadata = golden(f"metadata_{dtype}.bin")
    assert published.embedding_with_metadata(wanted[0], dtype) == metadata
    assert np.array_equal(published.read_binary_embedding(metadata), wanted[0])
    many = golden(f"many_{dtype}.bin")
    assert published.write_multiple_embeddings(wanted, dtype) == many
    assert np.array_equal(published.read_multiple_embeddings(many), wanted)
    for name, data in (("single", single), ("many", many)):
        assert published.decompress_binary(golden(f"{name}_{dtype}.bin.gz")) == data
        assert gzip.decompress(published.compress_binary(data)) == data


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)).filter(
        lambda array: np.isfinite(array).all()
    )
)
def test_many_vectors_there_and_back_and_as_the_published_loop_does(
    matrix: npt.NDArray[np.float32],
) -> None:
    data = published.write_multiple_embeddings(matrix)
    assert data == make_published.write_multiple(list(matrix))
    assert published.read_multiple_embeddings(data).tobytes() == matrix.tobytes()
    assert np.array_equal(make_published.read_multiple(data), matrix)
    assert published.decompress_binary(published.compress_binary(data)) == data


@given(hnp.arrays(np.float16, st.integers(1, 50), elements=st.floats(-1, 1, width=16)))
def test_one_vector_there_and_back(vector: npt.NDArray[np.float16]) -> None:
    data = published.embedding_with_metadata(vector, "float16")
    back = published.read_binary_embedding(data)
    assert back.dtype == np.float16 and back.tobytes() == vector.tobytes()
    raw = published.embedding_to_binary(vector, "float16")
    again = published.binary_to_embedding(raw, "float16", len(vector))
    assert again.tobytes() == vector.tobytes()


def test_without_vectors_there_is_a_count() -> None:
    data = published.write_multiple_embeddings(np.empty((0, 4)))
    assert data == bytes(4)
    assert published.read_multiple_embeddings(data).shape == (0, 0)


def test_a_vector_of_many_is_one_with_metadata_behind_its_length() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = published.write_multiple_embeddings(vectors)
    one = published.embedding_with_metadata(vectors[1])
    assert data[4 + 4 + len(one) :] == struct.pack("<I", len(one)) + one


def test_numbers_are_little_endian_wherever_they_come_from() -> None:
    big = np.array([1.0, -2.0], ">f4")
    assert published.embedding_to_binary(big) == struct.pack("<2f", 1, -2)
    assert published.embedding_to_binary([1.0, -2.0]) == struct.pack("<2f", 1, -2)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda: published.embedding_to_binary([[1.0]]), r"shape \(1, 1\)"),
        (lambda: published.embedding_to_binary([]), r"shape \(0,\)"),
        (lambda: published.embedding_to_binary([np.nan]), "not finite"),
        (lambda: published.embedding_to_binary([1e6], "float16"), "too large for float16"),
        (lambda: published.embedding_to_binary([1.0], "float64"), "'float64' is not supported"),
        (lambda: published.write_multiple_embeddings([1.0]), r"shape \(1,\)"),
        (lambda: published.write_multiple_embeddings(np.empty((3, 0))), r"shape \(3, 0\)"),
        (lambda: list(published.multiple_chunks(1 << 32, [])), "4294967296 vectors do not fit"),
        (
            lambda: list(published.multiple_chunks(2, [np.ones((1, 2))])),
            "1 vectors were given",
        ),
    ],
)
def test_what_nobody_could_read_is_not_written(write: Callable[[], object], said: str) -> None:
    with pytest.raises(StorageError, match=said):
        write()


def test_every_truncation_and_every_longer_file_is_refused() -> None:
    many, metadata = golden("many_float16.bin"), golden("metadata_float16.bin")
    for data, read in (
        (many, published.read_multiple_embeddings),
        (metadata, published.read_binary_embedding),
        (golden("single_float32.bin"), published.binary_to_embedding),
        (golden("many_float32.bin.gz"), published.decompress_binary),
    ):
        read(data)
        for length in range(len(data)):
            with pytest.raises(CorruptFileError):
                read(data[:length])
        for more in (b"\0", data):
            if data[:1] != b"\x1f" or more != data:  # two gzip files in one are a gzip file
                with pytest.raises(CorruptFileError):
                    read(data + more)


def record(size: int, name: bytes = b"float32", numbers: int | None = None) -> bytes:
    """A record of many whose metadata say ``size`` numbers, and that has ``numbers``."""
    body = struct.pack("<I", size) + name + bytes(4 * (size if numbers is None else numbers))
    return struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<I", 0xFFFFFFFF), "has 4 bytes and ends within a count"),
        (struct.pack("<II", 1, 15), "has 8 bytes and ends within the first record"),
        (struct.pack("<I", 0xFFFFFFFF) + record(1), "take 81604378609 bytes, but there are 23"),
        (
            struct.pack("<I", 2) + record(1) + record(2),
            "record 1 has the length 19, record 0 has 15",
        ),
        (struct.pack("<I", 2) + record(1) + record(1, b"float16"), "record 1 has the type"),
        (struct.pack("<I", 1) + record(0xFFFFFFFF, numbers=1), "record 0 has 15 bytes"),
        (struct.pack("<I", 3) + record(0), "record 0 has 0 numbers"),
        (struct.pack("<I", 1) + record(2, b"float64"), "type 'float64'"),
        (struct.pack("<II", 0, 0), "its count is 0, but it has 8 bytes"),
        # Records without metadata, as early versions of this project wrote.
        (struct.pack("<II", 1, 512) + bytes(512), "such as one without metadata"),
    ],
)
def test_lengths_that_lie_are_named(data: bytes, said: str) -> None:
    with pytest.raises(CorruptFileError, match=said):
        published.read_multiple_embeddings(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<I", 2) + b"float64" + bytes(16), "type 'float64'"),
        (struct.pack("<I", 0xFFFFFFFF) + b"float32" + bytes(16), "4294967295 numbers"),
        (b"\1\0\0", "3 bytes are too few"),
    ],
)
def test_metadata_that_lies_is_named(data: bytes, said: str) -> None:
    with pytest.raises(CorruptFileError, match=said):
        published.read_binary_embedding(data)


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_a_bomb_is_refused_and_an_honest_file_that_packs_well_is_not(
    engine: gm.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gm, "engine", engine)
    with pytest.raises(CorruptFileError, match="inflates to more than"):
        published.decompress_binary(gzip.compress(bytes(50_000_000)))
    same = published.write_multiple_embeddings(np.tile(np.float32(0.5), (100_000, 4)))
    packed = published.compress_binary(same)
    assert published.decompress_binary(packed) == same


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_a_flipped_bit_of_a_gzip_file_is_found_or_harmless(
    engine: gm.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gm, "engine", engine)
    many = golden("many_float32.bin")
    data = bytearray(gm.deflate(many))
    refused = 0
    for position in range(len(data)):
        data[position] ^= 0x10
        try:
            # A few bits mean nothing, such as the time in the header.
            assert published.decompress_binary(data) == many
        except CorruptFileError:
            refused += 1
        data[position] ^= 0x10
    assert refused > 0.7 * len(data)
