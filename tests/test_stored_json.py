"""Stored JSON: one policy for every record, and one canonical form with its test vector."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import NewerVersionError, StorageError
from featureid.stored_json import (
    Size,
    canonical_json,
    convert_json,
    decode_json,
    encode_json,
    refuse_newer,
)

FORMAT = Path(__file__).parents[1] / "docs" / "format.md"


@dataclass(frozen=True, slots=True)
class Part:
    size: Size
    name: str = ""

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise StorageError("the name is bad")


class Whole(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...]


def test_unknown_fields_are_ignored_at_any_depth() -> None:
    data = b'{"new": [1e999], "parts": [{"size": 3, "color": {"deep": null}}]}'
    assert decode_json(data, Whole) == Whole((Part(3),))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"parts": [{"size": -1}]}', r"parts\[0\]\.size: Expected int >= 0"),
        (b'{"parts": [{"size": 9223372036854775808}]}', r"parts\[0\]\.size: Expected int <= "),
        (b'{"parts": [{"size": %s}]}' % (b"9" * 5000), r"parts\[0\]\.size: Integer value out of"),
        (b'{"parts": [{"size": true}]}', r"parts\[0\]\.size: Expected int, got bool"),
        (b'{"parts": [{"size": 1.0}]}', r"parts\[0\]\.size: Expected int, got float"),
        (b'{"parts": [{"size": 1}, {}]}', r"parts\[1\]: .*missing required field size"),
        (b'{"parts": [{"size": 1, "name": "bad"}]}', "the name is bad"),
        (b'{"parts": [{"size": NaN}]}', "not JSON in UTF-8"),
        (b'{"parts": [], "new": "\xff"}', "not JSON in UTF-8"),
        (b'{"parts": [{"size": 1, "name": "\\ud800"}]}', "not JSON in UTF-8"),
        (b'{"parts": []} {}', "not JSON in UTF-8"),
        (b"", "not JSON in UTF-8"),
        (b'{"new": ' + b"[" * 100_000, "nested too deeply"),
        (b"[]", "^Expected object, got array"),
    ],
)
def test_what_is_not_the_record_is_refused_and_the_field_named(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode_json(data, Whole)


def test_a_parsed_value_is_checked_like_stored_bytes() -> None:
    assert convert_json({"parts": [{"size": 3}], "new": 1}, Whole) == Whole((Part(3),))
    with pytest.raises(ValueError, match=r"parts\[0\]\.size: Expected int >= 0"):
        convert_json({"parts": [{"size": -3}]}, Whole)


def test_the_last_of_several_equal_names_counts_as_for_other_readers() -> None:
    data = b'{"size": 1, "name": "a", "size": 2}'
    assert decode_json(data, Part) == Part(2, "a") == Part(**json.loads(data))


@given(st.text(max_size=30))
def test_texts_are_written_as_the_standard_library_writes_them(text: str) -> None:
    expected = json.dumps({"size": 1, "name": text}, ensure_ascii=False, separators=(",", ":"))
    assert encode_json(Part(1, text)) == expected.encode()
    assert decode_json(encode_json(Part(1, text)), Part) == Part(1, text)


def test_only_newer_versions_ask_for_an_update() -> None:
    refuse_newer(1, 2)
    with pytest.raises(NewerVersionError, match=r"version is 3, newer than 2.*update featureid"):
        refuse_newer(3, 2)
    for found in (0, -1, "1", True, 1.0, None):
        with pytest.raises(ValueError, match="not an integer from 1"):
            refuse_newer(found, 2)


CANONICAL_VALUE = {
    "🙂": '"\\/\b\f\n\r\t\0\x1f é€',
    "ﬀ": [1, 1.0, -0.0, 0.1, 1e-7, 1e16, 9007199254740993],
    "": {"b": None, "a": True},
}
CANONICAL_TEXT = (
    r'{"":{"a":true,"b":null},"ﬀ":[1,1.0,-0.0,0.1,1e-07,1e+16,9007199254740993],'
    r'"🙂":"\"\\/\b\f\n\r\t\u0000\u001f é€"}'
)


def test_the_canonical_form_has_the_bytes_and_digest_of_the_specification() -> None:
    data = canonical_json(CANONICAL_VALUE)
    assert data == CANONICAL_TEXT.encode()
    specification = FORMAT.read_text(encoding="utf-8")
    assert f"\n{CANONICAL_TEXT}\n" in specification
    assert hashlib.sha256(data).hexdigest() in specification


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(json_values)
def test_the_canonical_form_survives_parsing_and_does_not_depend_on_order(value: Any) -> None:
    data = canonical_json(value)
    assert canonical_json(json.loads(data)) == data
    if isinstance(value, dict):
        assert canonical_json(dict(reversed(value.items()))) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udc80": 1}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        canonical_json(value)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="too deeply"):
        canonical_json(nested)
