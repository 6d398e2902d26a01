"""Read manifests, that is, files that list images, and other tables of images."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any

from featureid.errors import FeatureIdError, StorageError, UsageError
from featureid.storage import files

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
#: Names of manifests with columns end in one of these; any other has a path per line.
MANIFEST_SUFFIXES = (*_DELIMITERS, *_JSON_LINES, _PARQUET)
_PARQUET_BATCH_ROWS = 65_536
_SNIFFED_BYTES = 4096
#: Surrogates, but for those that stand for a byte that is not UTF-8.
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# What manifests are by mistake, by the bytes that they start with.
_NOT_TEXT = {
    b"\x1f\x8b": "compressed with gzip; decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it",
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; save it as .csv",
    b"PAR1": "Parquet; give it a name that ends in .parquet",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}


def read_manifest(path: str, column: str = "path") -> Iterator[str]:
    """Yield the paths in a manifest, in its order, without blank ones.

    Text files have one path per line; bytes that are not UTF-8 stay as they are, so that they name
    the same file as a listing of its folder.  In ``.csv`` and ``.tsv`` files with a header line,
    ``.jsonl`` files of objects, and ``.parquet`` files, one column holds the paths.

    Args:
        path: of the manifest; local or a URI.
        column: the column or field with the paths, if it has several.

    Raises:
        UsageError: the manifest is missing or invalid, or does not have the column; names the line.
    """
    with _reading(path) as file:
        if _suffix(path) in MANIFEST_SUFFIXES:
            yield from (value for (value,) in _rows(file, path, [column]) if value)
            return
        _check_text(file, path)
        lines = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape")
        yield from filter(None, (line.rstrip("\n") for line in lines))


def read_table(path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the values of some columns of a table, row by row; "" for those that are missing.

    Args:
        path: of a ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, local or a URI.
        columns: their names.

    Raises:
        UsageError: the file is missing, of another type, or invalid, or does not have the columns.
    """
    if _suffix(path) not in MANIFEST_SUFFIXES:
        raise UsageError(
            f"{path!r} is not a table, by its name; give a file that ends in "
            f"{', '.join(MANIFEST_SUFFIXES)}"
        )
    with _reading(path) as file:
        yield from _rows(file, path, columns)


def column_names(path: str) -> list[str]:
    """Return the names of the columns of a table; of JSON lines, those of the first.

    Raises:
        UsageError: as :func:`read_table`.
    """
    import pyarrow.parquet as pq

    with _reading(path) as file:
        if _suffix(path) == _PARQUET:
            return [*pq.ParquetFile(file).schema_arrow.names]
        _check_text(file, path)
        with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as lines:
            if _suffix(path) in _JSON_LINES:
                first = next((line for line in lines if line.strip()), "{}")
                return [*json.loads(first)]
            return next(_csv_rows(lines, _DELIMITERS[_suffix(path)], path), (1, []))[1]


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


@contextlib.contextmanager
def _reading(path: str) -> Iterator[IO[bytes]]:
    """Open a manifest; what goes wrong while it is read is an error of the user's."""
    try:
        with _open(path) as file:
            yield file
    except FeatureIdError:
        raise
    except OSError as error:
        raise UsageError(f"manifest {path!r} cannot be read: {error.strerror or error}") from error


def _rows(file: IO[bytes], path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the values of some columns of a file with several; "" for those that are missing."""
    suffix = _suffix(path)
    if suffix == _PARQUET:
        yield from _parquet_rows(file, path, columns)
        return
    _check_text(file, path)
    # Only CSV has its own line breaks inside of fields.
    newline = "" if suffix in _DELIMITERS else None
    with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline) as lines:
        if suffix in _JSON_LINES:
            yield from _json_rows(lines, path, columns)
        else:
            yield from _csv_columns(lines, _DELIMITERS[suffix], path, columns)


def _open(path: str) -> IO[bytes]:
    if not files.is_remote(path):
        return open(files.local_path(path), "rb")
    filesystem, inner = files.filesystem(path)
    try:
        with files.remote_errors("read", path):
            file: IO[bytes] = filesystem.open(inner, "rb")
            return file
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UsageError(f"manifest: {error}") from error
        raise


def _check_text(file: IO[bytes], path: str) -> None:
    start = file.read(_SNIFFED_BYTES)
    file.seek(0)
    for signature, what in _NOT_TEXT.items():
        if start.startswith(signature):
            raise UsageError(f"manifest {path!r} is {what}")
    lines = start.split(b"\n")
    if 2 * sum(b"\0" in line for line in lines) > len(lines):  # A few are bad paths, no more.
        raise UsageError(f"manifest {path!r} has NUL bytes; is it UTF-16? Save it as UTF-8 text")


def _csv_columns(
    lines: Iterable[str], delimiter: str, path: str, columns: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    rows = _csv_rows(lines, delimiter, path)
    _, header = next(rows, (1, []))
    places = [_find_column(path, column, header) for column in columns]
    for line, row in rows:
        if len(row) != len(header):
            raise UsageError(
                f"manifest {path!r}, line {line}: {len(row)} fields, but the header has "
                f"{len(header)}; put paths with {delimiter!r} in quotation marks"
            )
        yield tuple(row[place] for place in places)


def _csv_rows(lines: Iterable[str], delimiter: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the number of its first line."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise UsageError(
                f"manifest {path!r}, line {line}: {error}; is a quotation mark not closed? In a "
                "field that starts with one, all others must be doubled, and one must end it"
            ) from error
        if row is None:
            return
        if row:
            yield line, row


def _json_rows(
    lines: Iterable[str], path: str, columns: Sequence[str]
) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"manifest {path!r}, line {number}"
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{where} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise UsageError(f"{where} is not a JSON object; give one per line")
        yield tuple(_json_value(value, column, where) for column in columns)


def _json_value(value: dict[str, Any], column: str, where: str) -> str:
    found = value.get(column, value)
    if found is value:
        raise _no_column(where, column, list(value))
    if not isinstance(found, str | None):
        raise UsageError(f"{where}: {column!r} is {found!r}; give it as text")
    if found and _HALF_CHARACTER.search(found):
        raise UsageError(f"{where}: {column!r} is {found!r}, which is not valid Unicode")
    return found or ""


def _parquet_rows(file: IO[bytes], path: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        for column in columns:
            _find_column(path, column, table.schema_arrow.names)
        for batch in table.iter_batches(_PARQUET_BATCH_ROWS, columns=[*columns]):
            values = (batch.column(column).cast(pa.string()).to_pylist() for column in columns)
            yield from zip(*([value or "" for value in some] for some in values), strict=True)
    except pa.ArrowException as error:
        raise UsageError(f"manifest {path!r} cannot be read as Parquet: {error}") from error


def _find_column(path: str, column: str, columns: list[str]) -> int:
    if column not in columns:
        raise _no_column(f"manifest {path!r}", column, columns)
    if columns.count(column) > 1:
        raise UsageError(f"manifest {path!r} has several columns {column!r}; rename all but one")
    return columns.index(column)


def _no_column(where: str, column: str, columns: list[str]) -> UsageError:
    return UsageError(
        f"{where} has no column {column!r}; it has {', '.join(map(repr, columns)) or 'none'}: "
        "name one with `column`"
    )
