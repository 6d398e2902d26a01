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
    one, other = close_hashes(hashes)
    return sorted(zip(one.tolist(), other.tolist(), strict=True))


@given(st.integers(0, 60), st.integers(0, 2**32), st.sampled_from([0, 3, 16, 20, 40]))
@settings(max_examples=60, deadline=None)
def test_all_pairs_are_found_once(rows: int, seed: int, spread: int) -> None:
    hashes = some(rows, seed, spread)
    assert found(hashes) == brute_force(hashes)


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
