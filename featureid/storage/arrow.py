"""Columns as Arrow tables, for Parquet, DuckDB, Polars and pandas, and back.

pyarrow and pandas are imported only when needed.
"""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featureid.errors import StorageError, UsageError
from featureid.keys import ImageLocations
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.records import ModelInfo, SnapshotInfo

if TYPE_CHECKING:
    import pandas
    import pyarrow


#: Of the names in a schema's metadata.
_PREFIX = "featureid."


def load_package(name: str, install: str) -> Any:
    """Import an optional package.

    Args:
        name: the module.
        install: the argument of ``pip install`` that installs it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name} cannot be imported ({error}); run: pip install '{install}'"
        ) from error


def schema(specs: Sequence[ColumnSpec], info: SnapshotInfo) -> pyarrow.Schema:
    """Return the Arrow schema of these columns; its metadata are those of the snapshot.

    Raises:
        UsageError: pyarrow is not installed.
    """
    pa = load_package("pyarrow", "pyarrow")
    fields = [pa.field(s.name, _type(pa, s), nullable=False) for s in specs]
    return pa.schema(fields, _metadata(info))


def _metadata(info: SnapshotInfo) -> dict[str, str]:
    """Return what ``docs/format.md`` lists."""
    model = info.model
    texts = {
        "snapshot": info.snapshot,
        "created": info.created,
        "writer": info.writer,
        "model": model.name,
        "model_digest": model.digest,
        "preprocessing_digest": model.preprocessing_digest,
        "dimension": str(model.dimension),
        "dtype": model.dtype,
        "faces": model.faces,
        "root": info.locations.root,
    }
    return {_PREFIX + name: text for name, text in texts.items()}


@dataclass(frozen=True, slots=True)
class Origin:
    """The snapshot that a table comes from, as its metadata say.

    Attributes:
        snapshot: its id.
        model: the model of its vectors.
        locations: where its images were.
    """

    snapshot: str
    model: ModelInfo
    locations: ImageLocations


def read_origin(metadata: Mapping[bytes, bytes], dimension: int) -> Origin | None:
    """Return the snapshot that the metadata of a schema name; None if they name none.

    Args:
        metadata: those of :func:`schema`, and any others.
        dimension: numbers in a vector of the table.
    """
    try:
        snapshot, model, digest, preprocessing, dtype, faces, root = (
            metadata[(_PREFIX + name).encode()].decode()
            for name in (
                "snapshot",
                "model",
                "model_digest",
                "preprocessing_digest",
                "dtype",
                "faces",
                "root",
            )
        )
        info = ModelInfo(model, digest, preprocessing, dimension, dtype, faces)
    except (KeyError, UnicodeDecodeError, StorageError):
        return None
    return Origin(snapshot, info, ImageLocations(root))


def record_batch(
    specs: Sequence[ColumnSpec], table: pyarrow.Schema, block: Mapping[str, Values]
) -> pyarrow.RecordBatch:
    """Return the values of one block as a record batch of the :func:`schema` ``table``."""
    pa = load_package("pyarrow", "pyarrow")
    arrays = []
    for spec, field in zip(specs, table, strict=True):
        values = block[spec.name]
        if spec.is_text:
            arrays.append(pa.array(values, field.type))
            continue
        numbers = np.ascontiguousarray(values)
        if sys.byteorder == "big":
            numbers = numbers.astype(numbers.dtype.newbyteorder("="))
        buffers: list[Any] = [None, pa.py_buffer(numbers)]
        if pa.types.is_fixed_size_binary(field.type):
            arrays.append(pa.Array.from_buffers(field.type, len(numbers), buffers))
        else:
            array = pa.array(numbers.reshape(-1))
            for size in reversed(spec.shape):
                array = pa.FixedSizeListArray.from_arrays(array, size)
            arrays.append(array.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=table)


def to_table(
    specs: Sequence[ColumnSpec], info: SnapshotInfo, blocks: Iterable[Mapping[str, Values]]
) -> pyarrow.Table:
    """Return all blocks as one table.

    Raises:
        UsageError: pyarrow is not installed.
    """
    pa = load_package("pyarrow", "pyarrow")
    fields = schema(specs, info)
    return pa.Table.from_batches([record_batch(specs, fields, b) for b in blocks], fields)


def to_pandas(table: pyarrow.Table) -> pandas.DataFrame:
    """Return a table as a data frame.

    Raises:
        UsageError: pandas is not installed.
    """
    load_package("pandas", "pandas")
    return table.to_pandas()


def _type(pa: Any, spec: ColumnSpec) -> Any:
    if spec.is_text:
        return pa.large_string()
    if spec.type == "uint8" and len(spec.shape) == 1:
        return pa.binary(spec.shape[0])
    kind = pa.float32() if spec.name == layout.VECTOR else pa.from_numpy_dtype(spec.dtype)
    for size in reversed(spec.shape):
        kind = pa.list_(pa.field("element", kind, nullable=False), size)
    return kind


class Sink(io.RawIOBase):
    """A file that keeps what is written to it until :meth:`take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Keep the bytes."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._size

    def take(self) -> bytes:
        """Return what was written since the last call, and forget it."""
        data = b"".join(self._parts)
        self._parts.clear()
        return data
