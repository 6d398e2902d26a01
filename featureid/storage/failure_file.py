"""Read the files that list the images without a feature ID."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator

from featureid.errors import CorruptFileError
from featureid.storage import files
from featureid.storage.layout import DamageError
from featureid.storage.manifest import FileSummary
from featureid.storage.records import Failure

_MAX_LINE = 1 << 20


def read_failures(place: str, summary: FileSummary) -> Iterator[Failure]:
    """Yield the rows of a failures file.

    Raises:
        CorruptFileError: it is not the file that the manifest lists.
        StorageError: it cannot be read.
    """
    data = files.read_bytes(place)
    if hashlib.sha256(data).hexdigest() != summary.sha256:
        raise DamageError(
            place, "the file", 0, max(1, len(data)), "its SHA-256 is not that of the manifest"
        )
    rows, last = 0, None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as lines:
            while line := lines.readline(_MAX_LINE):
                rows += 1
                failure = _failure(place, rows, line)
                # Without repetitions, a small file cannot hold very many rows.
                if last is not None and failure <= last:
                    raise CorruptFileError(f"{place}: line {rows} is not in order, or a repetition")
                last = failure
                yield failure
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFileError(f"{place} is not a gzip file, or corrupt: {error}") from error
    if rows != summary.rows:
        raise CorruptFileError(f"{place} has {rows} failures, the manifest says {summary.rows}")


def _failure(place: str, number: int, line: bytes) -> Failure:
    try:
        return Failure.from_json(line)
    except CorruptFileError as error:
        raise CorruptFileError(f"{place}: line {number}: {error}") from error
