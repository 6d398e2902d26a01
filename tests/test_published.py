"""The published layouts, byte for byte; lengths that lie refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
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
def test_golden_files_are_read_and_written_byte_for_byte(dtype, engine, monkeypatch):
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
    assert np.array_equal(published.read_multiple_embeddings(many, dtype), wanted)
    for name, data in (("single", single), ("many", many)):
        assert published.decompress_binary(golden(f"{name}_{dtype}.bin.gz")) == data
        assert gzip.decompress(published.compress_binary(data)) == data


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)).filter(
        lambda array: np.isfinite(array).all()
    )
)
def test_many_vectors_there_and_back_and_as_the_published_loop_does(matrix):
    data = published.write_multiple_embeddings(matrix)
    assert data == make_published.write_multiple(list(matrix))
    assert published.read_multiple_embeddings(data).tobytes() == matrix.tobytes()
    assert np.array_equal(make_published.read_multiple(data, "<f4"), matrix)
    assert published.decompress_binary(published.compress_binary(data)) == data


@given(hnp.arrays(np.float16, st.integers(1, 50), elements=st.floats(-1, 1, width=16)))
def test_one_vector_there_and_back(vector):
    data = published.embedding_with_metadata(vector, "float16")
    back = published.read_binary_embedding(data)
    assert back.dtype == np.float16 and back.tobytes() == vector.tobytes()
    raw = published.embedding_to_binary(vector, "float16")
    again = published.binary_to_embedding(raw, "float16", len(vector))
    assert again.tobytes() == vector.tobytes()


def test_without_vectors_there_is_a_count():
    data = published.write_multiple_embeddings(np.empty((0, 4)))
    assert data == bytes(4)
    assert published.read_multiple_embeddings(data).shape == (0, 0)


def test_numbers_are_little_endian_wherever_they_come_from():
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
        (lambda: published.embedding_to_binary([1.0], "float64"), "'float64' is not published"),
        (lambda: published.write_multiple_embeddings([1.0]), r"shape \(1,\)"),
        (lambda: published.write_multiple_embeddings(np.empty((3, 0))), r"shape \(3, 0\)"),
        (lambda: list(published.multiple_chunks(1 << 32, [])), "4294967296 vectors do not fit"),
        (lambda: list(published.multiple_chunks(2, [np.ones((1, 2))])), "1 vectors came where 2"),
    ],
)
def test_what_nobody_could_read_is_not_written(write, said):
    with pytest.raises(StorageError, match=said):
        write()


def test_every_truncation_and_every_longer_file_is_refused():
    many, metadata = golden("many_float16.bin"), golden("metadata_float16.bin")
    for data, read in (
        (many, lambda d: published.read_multiple_embeddings(d, "float16")),
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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<I", 0xFFFFFFFF), "it ends after 4 bytes"),
        (struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFC), "take 18446744069414584324 bytes"),
        (struct.pack("<III", 0xFFFFFFFF, 4, 0), "34359738364 bytes, there are 12"),
        (struct.pack("<III", 2, 4, 0) + struct.pack("<II", 8, 0), "vector 1 has 8 bytes"),
        (struct.pack("<II", 3, 0), "vector 0 has 0 bytes"),
        (struct.pack("<IIH", 1, 2, 0), "vector 0 has 2 bytes, no float32"),
        (struct.pack("<II", 0, 0), "counts no vectors, but has 8 bytes"),
    ],
)
def test_lengths_that_lie_are_named(data, said):
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
def test_metadata_that_lies_is_named(data, said):
    with pytest.raises(CorruptFileError, match=said):
        published.read_binary_embedding(data)


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_a_bomb_is_refused_and_an_honest_file_that_packs_well_is_not(engine, monkeypatch):
    monkeypatch.setattr(gm, "engine", engine)
    with pytest.raises(CorruptFileError, match="inflates to more than"):
        published.decompress_binary(gzip.compress(bytes(50_000_000)))
    same = published.write_multiple_embeddings(np.tile(np.float32(0.5), (100_000, 4)))
    packed = published.compress_binary(same)
    assert published.decompress_binary(packed) == same


@pytest.mark.parametrize("engine", [gm.ZlibEngine(), gm.engine], ids=["zlib", "fastest"])
def test_a_flipped_bit_of_a_gzip_file_is_found_or_harmless(engine, monkeypatch):
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
