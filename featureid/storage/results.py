"""Results of matching that a run writes and publishes: matches, or groups of duplicates.

An output folder of results is laid out like one of snapshots, with ``results/<id>/`` in the place
of ``snapshots/<id>/``, and a result becomes visible in the same way: temporary names, the manifest
last, then ``current``. Its rows are in Parquet files, in the order of their numbers and of the rows
in them; :mod:`featureid.storage.result_reader` reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy.typing as npt

from featureid._version import __version__
from featureid.durations import time_text
from featureid.errors import MixedModelsError, StorageError, UsageError
from featureid.masking import bare_uri
from featureid.storage import arrow, files
from featureid.storage.manifest import decode_manifest, encode_manifest
from featureid.storage.records import ModelInfo, first_difference
from featureid.storage.run_record import RunRecord, read_run
from featureid.storage.run_writer import RunWriter
from featureid.storage.snapshot import (
    MANIFEST,
    RESULTS,
    read_current,
    snapshot_folder,
)
from featureid.stored_json import PositiveSize, Size

if TYPE_CHECKING:
    import pyarrow

FORMAT = "featureid-results"
VERSION = 1
Kind = Literal["matches", "duplicates"]
ColumnType = Literal["text", "bool", "int32", "int64", "float32"]
#: Some rows as columns: column name -> values of all rows.
Rows = Mapping[str, Sequence[Any] | npt.NDArray[Any]]

_ROW_GROUP = 65_536


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """A column of a result's rows: its name, and the type of its values, which are never null."""

    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True)
class ResultSource:
    """A snapshot that a result was made from.

    Attributes:
        folder: where it was: path or bare URI of the snapshot's folder.
        snapshot: its id.
        rows: number of its rows.
        since: id of an older snapshot; only rows that are new since then were taken. "" for all.
    """

    folder: str
    snapshot: str
    rows: Size
    since: str = ""


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """What every file of a result records about it.

    Attributes:
        kind: ``matches`` or ``duplicates``.
        result: its id, in the form of a snapshot's.
        created: UTC time in ISO 8601, ``2026-11-23T05:42:31Z``; the same in every file.
        writer: program and version.
        model: the model of all vectors.
        sources: role, such as ``query`` -> the snapshot.
        options: what was asked for, such as ``k`` and ``threshold``.
        columns: those of the rows.
        num_files: number of files that hold them.
    """

    kind: Kind
    result: str
    created: str
    writer: str
    model: ModelInfo
    sources: dict[str, ResultSource]
    options: dict[str, Any]
    columns: tuple[ResultColumn, ...]
    num_files: Size = 1

    def __post_init__(self) -> None:
        if self.num_files < 1:
            raise StorageError(f"A result cannot have {self.num_files} files; give 1 or more")

    @property
    def run(self) -> str:
        """The id of the run that writes it, which is its own."""
        return self.result


def new_result_info(
    kind: Kind,
    result: str,
    now: datetime,
    model: ModelInfo,
    sources: Mapping[str, ResultSource],
    options: Mapping[str, Any],
    columns: Iterable[ResultColumn],
) -> ResultInfo:
    """Return what every file of a result that this version writes will say about it.

    Args:
        kind: what it is.
        result: its id, of :func:`featureid.storage.snapshot.new_snapshot_id`.
        now: its creation time, aware of its zone.
        model: what made the vectors.
        sources: role -> the snapshot.
        options: what was asked for, as JSON can express it.
        columns: those of the rows.
    """
    writer, created = f"featureid {__version__}", time_text(now)
    bare = {role: replace(item, folder=bare_uri(item.folder)) for role, item in sources.items()}
    return ResultInfo(kind, result, created, writer, model, bare, dict(options), tuple(columns))


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of a result in its manifest: name, rows, size, hexadecimal SHA-256."""

    file: str
    rows: Size
    bytes: Size
    sha256: str


@dataclass(frozen=True, slots=True)
class ResultManifest:
    """The manifest of a result.

    Attributes:
        info: what the result is.
        files: its files, in order.
        counts: what was counted, such as ``queries`` and ``matches``.
        sequence: as in a snapshot's manifest.
    """

    info: ResultInfo
    files: tuple[ResultFile, ...]
    counts: dict[str, Size] = field(default_factory=dict)
    sequence: PositiveSize = 1

    def __post_init__(self) -> None:
        info = self.info
        names = [result_name(info.kind, n, info.num_files) for n in range(info.num_files)]
        if [summary.file for summary in self.files] != names:
            raise StorageError(
                f"The {len(self.files)} files are not the {info.num_files} of the result, in order"
            )

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(summary.rows for summary in self.files)

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON, with its digest."""
        fields = {"format": FORMAT, "version": VERSION, **asdict(self.info)}
        files_ = [asdict(summary) for summary in self.files]
        published = {"sequence": self.sequence, "counts": self.counts, "files": files_}
        return encode_manifest({**fields, **published})

    @classmethod
    def from_json(cls, data: bytes, source: str) -> ResultManifest:
        """Parse a manifest; unknown fields are ignored, but covered by the digest.

        Args:
            data: the file.
            source: name of the file, for messages.

        Raises:
            CorruptFileError: it is not the manifest of a result, or was changed afterwards.
            NewerVersionError: it is of a later version.
        """
        return decode_manifest(data, source, _ManifestRecord, FORMAT, VERSION).manifest()


class _ManifestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of a manifest, without its digest."""

    kind: Kind
    result: str
    created: str
    writer: str
    model: ModelInfo
    sources: dict[str, ResultSource]
    options: dict[str, Any]
    columns: tuple[ResultColumn, ...]
    num_files: Size
    sequence: PositiveSize
    counts: dict[str, Size]
    files: tuple[ResultFile, ...]

    def __post_init__(self) -> None:
        self.manifest()  # Also checks the fields against each other.

    def manifest(self) -> ResultManifest:
        names = ResultInfo.__dataclass_fields__
        info = ResultInfo(**{name: getattr(self, name) for name in names})
        return ResultManifest(info, self.files, self.counts, self.sequence)


def result_name(kind: Kind, number: int, num_files: int) -> str:
    """Return the name of a file of a result, ``matches-00003-of-00016.parquet``."""
    return f"{kind}-{number:05d}-of-{num_files:05d}.parquet"


@dataclass(frozen=True)
class ResultWriter(RunWriter):
    """One run that writes a result: files by :func:`write_result_file`, then :meth:`commit`.

    >>> with writer.running():
    ...     files = [write_result_file(writer.folder, writer.info, 0, rows)]
    ...     writer.commit(files, {"queries": 10, "matches": 31})

    Attributes:
        output: the folder that holds results; local or a URI.
        info: the result.
        record: what ``run.json`` says about the run as it starts.
    """

    collection = RESULTS
    output: str
    info: ResultInfo
    record: RunRecord

    def check(self) -> None:
        """Check that the result may become the current one of its output.

        Raises:
            UsageError: the output holds snapshots, or results of another kind.
            MixedModelsError: the current result is of another model.
            StorageError: it cannot be read.
        """
        super().check()
        current = read_current(self.output, RESULTS).snapshot
        if current is None:
            return
        there = read_result_manifest(snapshot_folder(self.output, current, RESULTS)).info
        if there.kind != self.info.kind:
            raise UsageError(
                f"{self.output} holds {there.kind}, not {self.info.kind}; give another `output`"
            )
        difference = first_difference(there.model, self.info.model)
        if difference is not None:
            what, before, now = difference
            raise MixedModelsError(
                f"{self.output} holds {there.kind} of the model {there.model.name!r}; those of "
                f"this run are of {self.info.model.name!r}. The {what} differs: {before} there, "
                f"{now} here. Give another `output`"
            )

    def commit(self, summaries: Iterable[ResultFile], counts: Mapping[str, int]) -> ResultManifest:
        """Make the result visible and current, and return its manifest, which is the commit.

        Args:
            summaries: what was written, in any order; a file without rows must be written, too.
            counts: what was counted.

        Raises:
            FeatureIdError: as in :meth:`check`.
            StorageError: a file is missing or has another size, the run's mark is gone, or a file
                cannot be written.
        """
        if self.is_complete:  # a retry
            self._finish(read_run(self.folder) or self.record)
            return read_result_manifest(self.folder)
        self.check_marked()
        ordered = tuple(sorted(summaries, key=lambda summary: summary.file))
        manifest = ResultManifest(self.info, ordered, dict(counts))
        self._check_sizes({summary.file: summary.bytes for summary in ordered})
        self.check()
        record = replace(self.record, counts={**counts, "rows": manifest.rows})
        number = self._publish(lambda n: replace(manifest, sequence=n).to_json(), record)
        return replace(manifest, sequence=number)


def write_result_file(
    folder: str, info: ResultInfo, number: int, batches: Iterable[Rows]
) -> ResultFile:
    """Write one file of a result, whole or not at all, and return its entry in the manifest.

    Args:
        folder: the result's folder.
        info: the result.
        number: number of the file, from 0.
        batches: its rows in order, some at a time; with the columns of the result.

    Raises:
        StorageError: it cannot be written.
    """
    name = result_name(info.kind, number, info.num_files)
    digest, counted = hashlib.sha256(), [0]

    def chunks() -> Iterator[bytes]:
        for chunk in _encode(info, batches, counted):
            digest.update(chunk)
            yield chunk

    size = files.write_atomic(files.join(folder, name), chunks())
    return ResultFile(name, counted[0], size, digest.hexdigest())


def encoded_size(info: ResultInfo, batches: Iterable[Rows]) -> int:
    """Return the size of a file of a result with some rows, without writing it."""
    return sum(map(len, _encode(info, batches, [0])))


def result_schema(info: ResultInfo) -> pyarrow.Schema:
    """Return the Arrow schema of a result's rows; its metadata name the result and the model."""
    pa = arrow.load_package("pyarrow", "pyarrow")
    types = {"text": pa.string(), "bool": pa.bool_()}
    fields = [
        pa.field(column.name, types.get(column.type) or getattr(pa, column.type)(), nullable=False)
        for column in info.columns
    ]
    texts = {
        "kind": info.kind,
        "result": info.result,
        "created": info.created,
        "writer": info.writer,
        "model": info.model.name,
        "model_digest": info.model.digest,
        "preprocessing_digest": info.model.preprocessing_digest,
        **{f"{role}.snapshot": source.snapshot for role, source in info.sources.items()},
    }
    return pa.schema(fields, {f"featureid.{name}": text for name, text in texts.items()})


def read_result_manifest(folder: str) -> ResultManifest:
    """Return the manifest of a result's folder.

    Raises:
        CorruptFileError: it is damaged.
        StorageError: it cannot be read or is of a later version.
    """
    place = files.join(folder, MANIFEST)
    return ResultManifest.from_json(files.read_bytes(place), place)


def _encode(info: ResultInfo, batches: Iterable[Rows], counted: list[int]) -> Iterator[bytes]:
    """Yield the bytes of a file, and add its rows to ``counted``."""
    parquet = arrow.load_package("pyarrow.parquet", "pyarrow")
    schema, sink = result_schema(info), arrow.Sink()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for table in _tables(schema, batches):
            counted[0] += len(table)
            writer.write_table(table)
            yield sink.take()
    yield sink.take()


def _tables(schema: pyarrow.Schema, batches: Iterable[Rows]) -> Iterator[pyarrow.Table]:
    """Yield the rows in tables that are large enough for a row group each."""
    pa = arrow.load_package("pyarrow", "pyarrow")
    waiting: list[Any] = []
    rows = 0
    for batch in batches:
        arrays = [pa.array(batch[column.name], column.type) for column in schema]
        waiting.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        rows += len(waiting[-1])
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(waiting, schema)
            waiting, rows = [], 0
    if rows:
        yield pa.Table.from_batches(waiting, schema)
