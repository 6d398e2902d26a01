"""Stored JSON: typed decoding into records, and the canonical form that digests are made from.

One policy holds for every record that is stored as JSON: unknown fields are ignored; missing ones,
and values of another type or out of range, are refused. What a type cannot express, the record's
``__post_init__`` checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from featureid.errors import FeatureIdError, NewerVersionError

#: A count, size or offset: 0 to 2**63 - 1.
Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
#: The same from 1.
PositiveSize = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]

_Record = TypeVar("_Record")


def decode_json(data: bytes, kind: type[_Record]) -> _Record:
    """Return the record that is stored in ``data``.

    Args:
        data: JSON in UTF-8.
        kind: a dataclass, a ``msgspec.Struct``, or any other type that msgspec can decode.

    Raises:
        ValueError: ``data`` is not JSON in UTF-8 or not such a record; the message names the field.
    """
    # As text, since msgspec does not check the UTF-8 of fields that it skips.
    return _checked(lambda: msgspec.json.decode(data.decode(), type=kind))


def convert_json(value: Any, kind: type[_Record]) -> _Record:
    """Return the record in a JSON value that :func:`decode_json` has parsed without a type.

    Raises:
        ValueError: it is not such a record; the message names the field.
    """
    return _checked(lambda: msgspec.convert(value, kind))


def encode_json(record: Any) -> bytes:
    """Return a record as JSON in UTF-8 without white space, with its fields in order.

    Raises:
        ValueError: a text is not valid Unicode.
    """
    return msgspec.json.encode(record)


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of a value, see ``docs/format.md``; digests are computed from it.

    Raises:
        ValueError: a number is not finite, a text not valid Unicode, or the nesting too deep.
    """
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return text.encode()


def refuse_newer(found: object, newest: int) -> None:
    """Check that this version of featureid can read a format version.

    Args:
        found: the version in the file.
        newest: the newest that can be read.

    Raises:
        NewerVersionError: it is newer.
        ValueError: it is not a version.
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"its format version is {found!r}, not an integer from 1")
    if found > newest:
        raise NewerVersionError(
            f"its format version is {found}, newer than {newest}, the newest that this featureid "
            "reads; update featureid"
        )


def _checked(decode: Callable[[], _Record]) -> _Record:
    try:
        return decode()
    except msgspec.ValidationError as error:
        reason, _, place = str(error).replace("`", "").partition(" - at $")
        field = place.removeprefix(".")
        raise ValueError(f"{field}: {reason}" if field else reason) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from error
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    except FeatureIdError as error:  # of the record's own checks
        raise ValueError(str(error)) from error
