"""Gzip members: made and read by either library, bounded, refused when damaged."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.storage import gzip_members as gm

ENGINES: list[gm.Engine] = [gm.ZlibEngine()]
if isinstance(gm.engine, gm.IsalEngine):
    ENGINES.append(gm.IsalEngine())

payloads = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=40), st.integers(0, 3000)),
)


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> gm.Engine:
    engine: gm.Engine = request.param
    monkeypatch.setattr(gm, "engine", engine)
    return engine


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
@given(payload=payloads, huffman=st.booleans())
def test_any_engine_reads_what_any_wrote(engine: gm.Engine, payload: bytes, huffman: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gm, "engine", engine)
        members = [gm.store(payload), gm.deflate(payload, huffman=huffman)]
    for member in members:
        assert gzip.decompress(member) == payload
        for reader in ENGINES:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gm, "engine", reader)
                assert gm.unpack(member, len(payload)) == payload
                gm.check_trailer(member, payload)
    assert len(members[0]) == gm.stored_size(len(payload))
    assert len(members[1]) <= len(members[0])


@pytest.mark.parametrize("length", [0, 1, 32_767, 32_768, 32_769, 65_536, 100_000])
def test_stored_members_of_every_kind_of_length(length: int) -> None:
    payload = np.random.default_rng(length).bytes(length)
    member = gm.store(payload)
    assert gzip.decompress(member) == payload
    assert gm.unpack(member, length) == payload


def test_huffman_packs_the_top_bytes_of_unit_vectors_to_well_under_half(writer: gm.Engine) -> None:
    vectors = np.random.default_rng(0).standard_normal((1024, 128)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    top = vectors.view(np.uint8).reshape(-1, 4)[:, 3].tobytes()
    assert len(gm.deflate(top, huffman=True)) < 0.36 * len(top)
    assert len(gm.deflate(top)) > 0.40 * len(top)  # what the window of two bytes is for


@pytest.mark.parametrize("payload", [b"x" * 5000, bytes(range(256)) * 3, b""])
def test_a_wrong_length_is_refused_and_bounds_what_is_made(
    writer: gm.Engine, payload: bytes
) -> None:
    member = gm.deflate(payload)
    for wrong in (len(payload) + 1, max(0, len(payload) - 1), 10**15):
        if wrong != len(payload):
            with pytest.raises(ValueError, match=r"inflate to|stored deflate block"):
                gm.unpack(member, wrong)


def test_a_bomb_makes_no_more_than_it_may(writer: gm.Engine) -> None:
    bomb = gm.deflate(bytes(50_000_000))
    with pytest.raises(ValueError, match="does not inflate to 1000 bytes"):
        gm.unpack(bomb, 1000)


def test_a_flipped_byte_is_found_by_the_trailer_or_before(writer: gm.Engine) -> None:
    payload = bytes(range(32, 96)) + b"seldom does a word return; this one does: word"
    member = gm.deflate(payload)
    for position in range(len(member)):
        damaged = bytearray(member)
        damaged[position] ^= 0x10
        with pytest.raises(ValueError):
            gm.check_trailer(damaged, gm.unpack(damaged, len(payload)))


def test_trailing_bytes_are_refused(writer: gm.Engine) -> None:
    payload = b"abc" * 50
    body = gm.deflate(payload)
    with pytest.raises(ValueError, match="does not inflate"):
        gm.unpack(body[:-8] + b"\0" + body[-8:], len(payload))


def test_crc32_is_that_of_gzip(writer: gm.Engine) -> None:
    assert gm.crc32(b"123456789") == zlib.crc32(b"123456789") == 0xCBF43926
