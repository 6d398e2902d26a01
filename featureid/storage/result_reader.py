"""Read results of matching: matches, and groups of duplicates."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from featureid.errors import CorruptFileError
from featureid.html_table import SHOWN_ROWS, html_table
from featureid.storage import arrow, files
from featureid.storage.results import (
    Kind,
    ResultFile,
    ResultManifest,
    read_result_manifest,
    result_schema,
)
from featureid.storage.snapshot import (
    RESULTS,
    SNAPSHOTS,
    find_and_read,
    is_snapshot_id,
    other_collection,
)

if TYPE_CHECKING:
    import pandas
    import pyarrow


def open_results(path: str | os.PathLike[str]) -> Results:
    """Open a complete result: the matches that ``featureid match`` has found, or duplicates.

    Args:
        path: an output folder, meaning its current result, or a result's own folder; a local path
            or a URI.

    Raises:
        StorageError: there is no complete result, or it cannot be read.
        CorruptFileError: its manifest is damaged.
    """
    return Results(*find_and_read(os.fspath(path), RESULTS, read_result_manifest))


def is_result(path: str) -> bool:
    """Return whether a path is that of an output folder of results, or of a result's folder."""
    above, _, name = path.rstrip("/").rpartition("/")
    if above.rpartition("/")[2] == RESULTS and is_snapshot_id(name):
        return True
    return other_collection(path, SNAPSHOTS) is not None


class Results:
    """A complete result: rows in a fixed order, read file by file.

    >>> matches = featureid.open_results("matches/")
    >>> for row in matches:                                  # {"query": "a.jpg", "rank": 1, …}
    ...     print(row["query"], row["key"], row["score"])

    Every method that reads raises :class:`~featureid.errors.CorruptFileError` where a byte is not
    what was written, and :class:`~featureid.errors.StorageError` where a file cannot be read.

    Attributes:
        folder: path or URI of the result's folder.
        manifest: what the result is, its files, and counts.
    """

    def __init__(self, folder: str, manifest: ResultManifest) -> None:
        """Read nothing yet; use :func:`open_results` to find the manifest."""
        self.folder = folder
        self.manifest = manifest

    def __repr__(self) -> str:
        """Return a short description."""
        return f"<Results {self.folder}: {len(self)} rows of {self.kind}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the first rows."""
        rows = [*islice(self, SHOWN_ROWS)]
        columns = [*rows[0]] if rows else ()
        note = f"{len(self)} rows of {self.kind} in {self.folder}"
        return html_table((row.values() for row in rows), columns, note)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.manifest.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield each row: column name -> value."""
        for table in self.tables():
            yield from table.to_pylist()

    @property
    def kind(self) -> Kind:
        """``matches`` or ``duplicates``."""
        return self.manifest.info.kind

    def tables(self) -> Iterator[pyarrow.Table]:
        """Yield the rows as Arrow tables, one for each file."""
        for summary in self.manifest.files:
            yield self._read(summary)

    def to_arrow(self) -> pyarrow.Table:
        """Return all rows as an Arrow table; its metadata name the result and the model."""
        pa = arrow.load_package("pyarrow", "pyarrow")
        return pa.concat_tables([*self.tables()])

    def to_pandas(self) -> pandas.DataFrame:
        """Return all rows as a data frame.

        Raises:
            UsageError: pandas is not installed.
        """
        return arrow.to_pandas(self.to_arrow())

    def _read(self, summary: ResultFile) -> pyarrow.Table:
        """Return the rows of a file, once it is known to be the one that the manifest lists."""
        pa = arrow.load_package("pyarrow", "pyarrow")
        parquet = arrow.load_package("pyarrow.parquet", "pyarrow")
        place = files.join(self.folder, summary.file)
        data = files.read_bytes(place)
        if hashlib.sha256(data).hexdigest() != summary.sha256:
            raise CorruptFileError(
                f"{place} is damaged: its SHA-256 is not that of the manifest. Restore it from a "
                "copy, or run again what made it"
            )
        # Without threads: Arrow's could still be running when the interpreter ends, and abort it.
        table = parquet.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        if len(table) != summary.rows or table.schema != result_schema(self.manifest.info):
            raise CorruptFileError(f"{place}: its rows are not those that the manifest lists")
        return table
