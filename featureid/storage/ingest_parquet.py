"""Read rows to import from Parquet files, of ``featureid export`` or of other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, UsageError, did_you_mean
from featureid.storage import arrow, files, from_arrow, layout
from featureid.storage.arrow import Origin
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.from_arrow import RowError
from featureid.storage.ingest import Rows, row_name
from featureid.storage.records import WHOLE_IMAGE
from featureid.storage.row_columns import ATTRIBUTES, FACE_COLUMNS, NAN_COLUMNS
from featureid.storage.snapshot_shard import joined_blocks

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 65_536

_Converted = TypeVar("_Converted")


@dataclass(frozen=True, eq=False)
class ParquetRows:
    """What a Parquet file holds.

    Attributes:
        rows: its rows.
        origin: the snapshot that it was exported from, as its metadata say; None without them.
        left_out: names of its columns that snapshots do not have.
    """

    rows: Rows
    origin: Origin | None
    left_out: tuple[str, ...]


def read_parquet(
    path: str,
    key_column: str | None = None,
    vector_column: str | None = None,
    *,
    number_rows: bool = False,
) -> ParquetRows:
    """Return the rows of a Parquet file, all in memory.

    A key is text, or an integer, which is written in decimal. A vector is a list of float16,
    float32 or float64. Columns that have the name of one of :data:`ATTRIBUTES` must hold what it
    says; those of faces count only with ``face_index``.

    Args:
        path: of the file; local or a URI.
        key_column: the column with the keys; None for ``key``, or else the only one of text.
        vector_column: that with the vectors; None for ``vector``, or else the only one of lists of
            floats.
        number_rows: use row numbers as keys, from 0.

    Raises:
        UsageError: a column cannot be found, or has another type.
        CorruptFileError: it is not a Parquet file, damaged, or a row cannot be imported: it has a
            null, or vectors of different lengths; the message names the row.
        StorageError: it cannot be read.
    """
    pa = arrow.load_package("pyarrow", "pyarrow")
    parquet = arrow.load_package("pyarrow.parquet", "pyarrow")
    data = files.map_bytes(path)
    try:
        file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
        schema = file.schema_arrow
        vectors = _vector_column(path, schema, vector_column)
        keys = None if number_rows else _key_column(path, schema, key_column)
        attributes = _attributes(path, schema, {keys, vectors})
        rows = _read(path, file, keys, vectors, attributes)
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} cannot be read as Parquet: {error}") from error
    origin = arrow.read_origin(schema.metadata or {}, rows.vectors.shape[1])
    if origin and origin.model.faces and not set(FACE_COLUMNS) <= set(rows.attributes):
        missing = sorted(set(FACE_COLUMNS) - set(rows.attributes))
        raise CorruptFileError(
            f"{path}: its metadata say that its rows are faces, but it has no {', '.join(missing)}"
        )
    taken = {keys, vectors, *attributes}
    return ParquetRows(rows, origin, tuple(name for name in schema.names if name not in taken))


def _read(
    path: str,
    file: Any,
    key_column: str | None,
    vector_column: str,
    attributes: Mapping[str, ColumnSpec],
) -> Rows:
    """Return all rows; without a key column, their numbers are their keys."""
    total = file.metadata.num_rows
    keys: list[str] = []
    vectors: npt.NDArray[Any] | None = None
    values: dict[str, list[Values]] = {name: [] for name in attributes}
    names = [vector_column, *([key_column] if key_column else []), *attributes]
    for batch in file.iter_batches(_BATCH_ROWS, columns=names):
        part = _Batch(path, batch, len(keys))
        part.keys = part.column(key_column, from_arrow.key_texts) if key_column else part.numbers()
        keys += part.keys
        if len(keys) > total:
            break
        if vectors is None:
            matrix = part.column(vector_column, from_arrow.vector_matrix)
            # Filled batch by batch, since joining batches would take twice the memory.
            vectors = np.empty((total, matrix.shape[1]), matrix.dtype)
        else:
            of_size = partial(from_arrow.vector_matrix, dimension=vectors.shape[1])
            matrix = part.column(vector_column, of_size)
        vectors[len(keys) - len(matrix) : len(keys)] = matrix
        for name, spec in attributes.items():
            values[name].append(part.column(name, partial(_attribute_values, spec=spec)))
    if len(keys) != total:
        raise CorruptFileError(f"{path}: its footer says {total} rows, but it has other ones")
    joined = {name: joined_blocks(attributes[name], parts) for name, parts in values.items()}
    return Rows(path, keys, np.empty((0, 0), "<f4") if vectors is None else vectors, joined)


class _Batch:
    """Some rows of a file, whose errors name the row in the file and its key."""

    def __init__(self, path: str, batch: pyarrow.RecordBatch, start: int) -> None:
        self.keys: list[str] = []
        self._path = path
        self._batch = batch
        self._start = start

    def numbers(self) -> list[str]:
        """Return the number of each row in the file, from 0, as text."""
        return [str(self._start + row) for row in range(len(self._batch))]

    def column(self, name: str, convert: Callable[[pyarrow.Array], _Converted]) -> _Converted:
        """Return a column, converted.

        Raises:
            CorruptFileError: a row cannot be converted.
        """
        place = self._batch.schema.get_field_index(name)
        try:
            return convert(self._batch.column(place))
        except RowError as error:
            key = self.keys[error.row] if self.keys else None
            named = row_name(self._path, self._start + error.row, key)
            raise CorruptFileError(f"{named}: column {name!r} {error}") from error


def _attribute_values(array: pyarrow.Array, spec: ColumnSpec) -> Values:
    values = from_arrow.column_values(array, spec, nan=spec.name in NAN_COLUMNS)
    if spec.name == layout.FACE_INDEX:
        from_arrow.refuse_rows(np.asarray(values) < WHOLE_IMAGE, f"is below {WHOLE_IMAGE}")
    if spec.name == "box":
        left, top, right, bottom = np.asarray(values).T
        inside_out = ~((left < right) & (top < bottom))
        from_arrow.refuse_rows(inside_out, "is not left, top, right, bottom")
    return values


def _key_column(path: str, schema: pyarrow.Schema, wanted: str | None) -> str:
    return _find(
        path, schema, wanted, layout.KEY, "keys (texts)", from_arrow.is_text, from_arrow.is_key
    )


def _vector_column(path: str, schema: pyarrow.Schema, wanted: str | None) -> str:
    is_vector = from_arrow.is_vector
    what = "vectors (lists of floats)"
    return _find(path, schema, wanted, layout.VECTOR, what, is_vector, is_vector)


def _find(
    path: str,
    schema: pyarrow.Schema,
    wanted: str | None,
    usual: str,
    what: str,
    looks_right: Callable[[pyarrow.DataType], bool],
    is_possible: Callable[[pyarrow.DataType], bool],
) -> str:
    """Return the name of a column: the one that is asked for, the usual one, or the only one."""
    parameter = f"`{usual}_column`"
    types = dict(zip(schema.names, schema.types, strict=True))
    name = wanted if wanted is not None else usual if usual in types else None
    if name is None:
        fitting = [n for n, t in types.items() if looks_right(t) and n not in ATTRIBUTES]
        if len(fitting) != 1:
            found = f"several columns of {what}: " + ", ".join(map(repr, fitting))
            found = found if fitting else f"no column of {what}; it has {_listed(schema)}"
            raise UsageError(f"{path} has {found}; name one with {parameter}")
        (name,) = fitting
    if name not in types:
        raise UsageError(
            f"{path} has no column {name!r}{did_you_mean(name, types)}; it has {_listed(schema)}: "
            f"name one with {parameter}"
        )
    if schema.names.count(name) > 1:
        raise UsageError(f"{path} has several columns {name!r}; rename all but one")
    if not is_possible(types[name]):
        raise UsageError(
            f"{path}: column {name!r} is {types[name]}, not {what}; name another one with "
            f"{parameter}"
        )
    return name


def _listed(schema: pyarrow.Schema) -> str:
    pairs = zip(schema.names, schema.types, strict=True)
    return ", ".join(f"{name!r} ({kind})" for name, kind in pairs) or "no columns"


def _attributes(path: str, schema: pyarrow.Schema, taken: set[str | None]) -> dict[str, ColumnSpec]:
    """Return the other columns that snapshots have, in the order in which they are stored."""
    names = [name for name in ATTRIBUTES if name in schema.names and name not in taken]
    if layout.FACE_INDEX not in names:
        names = [name for name in names if name not in FACE_COLUMNS]
    for name in names:
        kind = schema.field(schema.get_field_index(name)).type
        if schema.names.count(name) > 1 or not from_arrow.fits(kind, ATTRIBUTES[name]):
            raise UsageError(
                f"{path}: column {name!r} is {kind}, which does not fit the attribute of this "
                "name; rename it or leave it out"
            )
    return {name: ATTRIBUTES[name] for name in names}
