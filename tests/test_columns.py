"""Columns: every type there and back, and what does not fit refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featureid.errors import StorageError
from featureid.storage import columns
from featureid.storage import gzip_members as gm
from featureid.storage.columns import NUMBER_TYPES, ColumnSpec, Values


def payloads_of(spec: ColumnSpec, values: Values, smaller: bool = True) -> list[bytes]:
    packed = columns.to_members(spec, values, smaller=smaller)
    return [gm.unpack(member, length) for member, length in packed]


def there_and_back(spec: ColumnSpec, values: Values) -> Values:
    payloads = payloads_of(spec, values)
    wanted = spec.raw_lengths(len(values))
    assert wanted is None or [len(payload) for payload in payloads] == wanted
    assert payloads_of(spec, values, smaller=False) == payloads
    return columns.from_payloads(spec, len(values), payloads)


@given(st.lists(st.text(max_size=12), max_size=40))
def test_texts(values: list[str]) -> None:
    assert there_and_back(ColumnSpec("key", "utf8"), values) == values


@given(st.data(), st.sampled_from(sorted(NUMBER_TYPES)), st.sampled_from(["plain", "planes"]))
def test_numbers_of_every_type_shape_and_encoding(
    data: st.DataObject, kind: str, encoding: str
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    values = data.draw(hnp.arrays(NUMBER_TYPES[kind], shape))
    spec = ColumnSpec("x", kind, shape[1:], encoding)
    assert spec.known
    back = np.asarray(there_and_back(spec, values))
    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()
    assert back.shape == values.shape


def test_planes_are_least_significant_byte_first_and_the_last_in_halves() -> None:
    values = np.array([[0x41020304, 0x15060708, 0x290A0B0C]], "<u4").view("<f4")
    spec = ColumnSpec("x", "float32", (3,), "planes")
    low = [b"\x04\x08\x0c", b"\x03\x07\x0b", b"\x02\x06\x0a"]
    # 0x41 with 0x29, and 0x15 with nothing: 0x92 and 0x00 after their four bits are swapped.
    lower = bytes([0x41 & 0x87 | 0x92 & 0x78, 0x15 & 0x87])
    upper = bytes([0x41 & 0x78 | 0x92 & 0x87, 0x15 & 0x78])
    assert payloads_of(spec, values) == [*low, lower, upper]


def test_planes_of_more_than_one_stored_block() -> None:
    values = np.random.default_rng(0).standard_normal((7, 9_999)).astype("<f4")
    spec = ColumnSpec("x", "float32", (9_999,), "planes")
    assert np.asarray(there_and_back(spec, values)).tobytes() == values.tobytes()


def test_of_planes_only_the_halves_are_deflated() -> None:
    spec = ColumnSpec("x", "float32", (), "planes")
    packed = columns.to_members(spec, np.ones(1000, "<f4"))
    assert [len(m) == gm.stored_size(n) for m, n in packed] == [True, True, True, False, False]
    packed = columns.to_members(spec, np.ones(1000, "<f4"), smaller=False)
    assert all(len(m) == gm.stored_size(n) for m, n in packed)


def test_the_lower_halves_of_unit_vectors_take_most_of_what_the_last_plane_takes() -> None:
    vectors = np.random.default_rng(0).standard_normal((1024, 128)).astype("<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    packed = columns.to_members(ColumnSpec("x", "float32", (128,), "planes"), vectors)
    *_, lower, upper = (len(member) for member, _ in packed)
    assert lower < 0.35 * vectors.size
    assert upper < 0.005 * vectors.size


def test_text_payload_bytes() -> None:
    (payload,) = payloads_of(ColumnSpec("key", "utf8"), ["é", "", "ab"])
    assert payload == bytes.fromhex("02000000 00000000 02000000 c3a9 6162")


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x01\0\0", b"\x01\0\0\0", b"\x01\0\0\0ab", b"\xff\xff\xff\xffab", b"\x01\0\0\0\xff"],
)
def test_a_text_payload_that_lies_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        columns.from_payloads(ColumnSpec("key", "utf8"), 1, [payload])


@pytest.mark.parametrize(
    ("spec", "values", "said"),
    [
        (ColumnSpec("x", "int32"), np.zeros(3, "<i8"), "int64"),
        (ColumnSpec("x", "float32", (2,)), np.zeros((3, 3), "<f4"), r"\(3,\)"),
        (ColumnSpec("key", "utf8"), ["a\udc80"], "is not valid Unicode"),
    ],
)
def test_values_that_do_not_fit_are_refused(spec: ColumnSpec, values: Values, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        columns.to_members(spec, values)


@pytest.mark.parametrize(
    "spec",
    [
        ColumnSpec("x", "decimal"),
        ColumnSpec("x", "int32", (), "delta"),
        ColumnSpec("x", "utf8", (), "planes"),
        ColumnSpec("x", "utf8", (2,)),
    ],
)
def test_kinds_from_the_future_are_not_known(spec: ColumnSpec) -> None:
    assert not spec.known
