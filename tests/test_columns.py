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
from featureid.storage.columns import NUMBER_TYPES, ColumnSpec


def there_and_back(spec, values):
    payloads = columns.to_payloads(spec, values)
    wanted = spec.raw_lengths(len(values))
    assert wanted is None or [len(payload) for payload in payloads] == wanted
    for smaller in (True, False):
        members = columns.pack(spec, payloads, smaller=smaller)
        opened = [gm.unpack(m, len(p)) for m, p in zip(members, payloads, strict=True)]
        assert opened == payloads
    return columns.from_payloads(spec, len(values), payloads)


@given(st.lists(st.text(max_size=12), max_size=40))
def test_texts(values):
    assert there_and_back(ColumnSpec("key", "utf8"), values) == values


@given(st.data(), st.sampled_from(sorted(NUMBER_TYPES)), st.sampled_from(["plain", "planes"]))
def test_numbers_of_every_type_shape_and_encoding(data, kind, encoding):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    values = data.draw(hnp.arrays(NUMBER_TYPES[kind], shape))
    spec = ColumnSpec("x", kind, shape[1:], encoding)
    assert spec.known
    back = there_and_back(spec, values)
    assert back.dtype == values.dtype
    assert back.tobytes() == values.tobytes()
    assert back.shape == values.shape


def test_planes_are_least_significant_byte_first():
    values = np.array([[0x01020304, 0x05060708]], "<i4")
    spec = ColumnSpec("x", "int32", (2,), "planes")
    assert columns.to_payloads(spec, values) == [b"\x04\x08", b"\x03\x07", b"\x02\x06", b"\x01\x05"]


def test_of_planes_only_the_last_is_deflated():
    spec = ColumnSpec("x", "float32", (), "planes")
    members = columns.pack(spec, columns.to_payloads(spec, np.ones(1000, "<f4")))
    assert [len(m) == gm.stored_size(1000) for m in members] == [True, True, True, False]


def test_text_payload_bytes():
    payload = columns.to_payloads(ColumnSpec("key", "utf8"), ["é", "", "ab"])[0]
    assert payload == bytes.fromhex("02000000 00000000 02000000 c3a9 6162")


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x01\0\0", b"\x01\0\0\0", b"\x01\0\0\0ab", b"\xff\xff\xff\xffab", b"\x01\0\0\0\xff"],
)
def test_a_text_payload_that_lies_is_refused(payload):
    with pytest.raises(ValueError):
        columns.from_payloads(ColumnSpec("key", "utf8"), 1, [payload])


@pytest.mark.parametrize(
    ("spec", "values", "said"),
    [
        (ColumnSpec("x", "int32"), np.zeros(3, "<i8"), "int64"),
        (ColumnSpec("x", "float32", (2,)), np.zeros((3, 3), "<f4"), r"\(3,\)"),
        (ColumnSpec("key", "utf8"), ["a\udc80"], "no valid Unicode"),
    ],
)
def test_values_that_do_not_fit_are_refused(spec, values, said):
    with pytest.raises(StorageError, match=said):
        columns.to_payloads(spec, values)


@pytest.mark.parametrize(
    "spec",
    [
        ColumnSpec("x", "decimal"),
        ColumnSpec("x", "int32", (), "delta"),
        ColumnSpec("x", "utf8", (), "planes"),
        ColumnSpec("x", "utf8", (2,)),
    ],
)
def test_kinds_from_the_future_are_not_known(spec):
    assert not spec.known
