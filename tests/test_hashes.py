"""Pairs of near hashes: all of them, each once, as brute force finds them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.images.pdq import HASH_BYTES, MAX_DISTANCE, hash_distances
from featureid.matching import hashes as module
from featureid.matching.hashes import Hashes, close_hashes


def flipped(
    bits: npt.NDArray[np.uint8], count: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return a hash with ``count`` bits changed."""
    unpacked = np.unpackbits(bits)
    unpacked[random.choice(256, count, replace=False)] ^= 1
    return np.packbits(unpacked)


def some(rows: int, seed: int, spread: int) -> Hashes:
    """Return hashes within ``spread`` bits of a few centers; one in eight says nothing."""
    random = np.random.default_rng(seed)
    centers = random.integers(256, size=(1 + rows // 8, HASH_BYTES)).astype(np.uint8)
    bits = [
        flipped(centers[random.integers(len(centers))], int(random.integers(spread + 1)), random)
        for _ in range(rows)
    ]
    quality = random.choice([0, 49, 50, 80, 100, 100, 100, 100], rows).astype(np.uint8)
    return Hashes.of(np.array(bits, np.uint8).reshape(-1, HASH_BYTES), quality)


def brute_force(hashes: Hashes) -> list[tuple[int, int]]:
    return [
        (one, other)
        for one in np.flatnonzero(hashes.usable).tolist()
        for other in np.flatnonzero(hashes.usable).tolist()
        if one < other
        and hash_distances(hashes.bits[one], hashes.bits[other : other + 1])[0] <= MAX_DISTANCE
    ]


def found(hashes: Hashes) -> list[tuple[int, int]]:
    one, other, alike = close_hashes(hashes)
    assert (one < other).all() and (alike[~hashes.usable] == -1).all()
    same = (alike[:, np.newaxis] == alike) & (alike >= 0)
    numbered = np.argwhere(np.triu(same, 1)).tolist()
    return sorted([*zip(one.tolist(), other.tolist(), strict=True), *map(tuple, numbered)])


@given(
    st.integers(0, 60),
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 3, 16, 20, 40]),
    st.sampled_from([0, 1, 2, 64]),
)
@settings(max_examples=60, deadline=None)
def test_all_pairs_are_found_once(rows: int, seed: int, spread: int, listed: int) -> None:
    hashes = some(rows, seed, spread)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_LISTED", listed)
        assert found(hashes) == brute_force(hashes)


def test_pairs_of_very_many_equal_hashes_are_not_listed() -> None:
    """All pairs would be 20 billion."""
    rows = 200_000
    random = np.random.default_rng(1)
    base = random.integers(256, size=HASH_BYTES).astype(np.uint8)
    bits = np.repeat(base[np.newaxis], rows, 0)
    bits[7] = flipped(base, 9, random)
    one, other, alike = close_hashes(Hashes.of(bits, np.full(rows, 100, np.uint8)))
    assert len(one) == rows - 1 and ((one == 7) | (other == 7)).all()
    assert alike[7] == -1 and len({*alike.tolist()}) == 2


def test_at_the_limit_no_pair_is_lost() -> None:
    random = np.random.default_rng(5)
    base = random.integers(256, size=HASH_BYTES).astype(np.uint8)
    # Two bits in each band but one: the hardest pair, which shares one band but for a bit.
    for alone in range(16):
        unpacked = np.unpackbits(base).reshape(16, 16)
        unpacked[:, :2] ^= 1
        unpacked[alone, 0] ^= 1
        bits = np.stack([base, np.packbits(unpacked)])
        assert hash_distances(base, bits)[1] == MAX_DISTANCE
        assert found(Hashes.of(bits, np.full(2, 100, np.uint8))) == [(0, 1)]
    bits = np.stack([base, flipped(base, MAX_DISTANCE + 1, random)])
    assert found(Hashes.of(bits, np.full(2, 100, np.uint8))) == []


def test_many_candidates_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = some(150, 7, 10)
    at_once = found(hashes)
    monkeypatch.setattr(module, "_AT_ONCE", 50)
    assert found(hashes) == at_once == brute_force(hashes)


def test_distances_are_unknown_where_a_hash_says_too_little() -> None:
    bits = np.zeros((3, HASH_BYTES), np.uint8)
    bits[1, 0] = 7
    hashes = Hashes.joined([Hashes.of(bits, np.array([50, 90, 49], np.uint8)), Hashes.none(1)])
    assert hashes.distances(0, hashes).tolist() == [0, 3, -1, -1]
    assert hashes.distances(2, hashes).tolist() == [-1] * 4
