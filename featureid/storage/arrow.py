"""Columns as Arrow tables, for Parquet, DuckDB, Polars and pandas.

pyarrow and pandas are imported only when needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featureid.errors import UsageError
from featureid.storage import layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.records import ModelInfo

if TYPE_CHECKING:
    import pandas
    import pyarrow


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


def schema(specs: Sequence[ColumnSpec], model: ModelInfo) -> pyarrow.Schema:
    """Return the Arrow schema of these columns; its metadata names the model.

    Raises:
        UsageError: pyarrow is not installed.
    """
    pa = load_package("pyarrow", "pyarrow")
    metadata = {
        "featureid.model": model.name,
        "featureid.model_digest": model.digest,
        "featureid.preprocessing_digest": model.preprocessing_digest,
    }
    return pa.schema([pa.field(s.name, _type(pa, s), nullable=False) for s in specs], metadata)


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
    specs: Sequence[ColumnSpec], model: ModelInfo, blocks: Iterable[Mapping[str, Values]]
) -> pyarrow.Table:
    """Return all blocks as one table.

    Raises:
        UsageError: pyarrow is not installed.
    """
    pa = load_package("pyarrow", "pyarrow")
    fields = schema(specs, model)
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
