"""The manifest: what a snapshot consists of. Its presence is what makes a snapshot complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from featureid.errors import CorruptFileError, FeatureIdError, StorageError
from featureid.storage.records import ModelInfo, SnapshotInfo
from featureid.storage.shard import ShardSummary, shard_name

FORMAT = "featureid-snapshot"
VERSION = 1
#: Name of the rule in :func:`featureid.storage.shard_of`.
SHARD_HASH = "sha256-le64-mod"

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What the manifest says of one failures file: name, rows, size, hex SHA-256."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Images of a run: all, embedded, failed, and the failed ones by reason code."""

    images: int
    embedded: int
    failed: int
    failures_by_reason: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_reason = sum(self.failures_by_reason.values())
        if self.images != self.embedded + self.failed or self.failed != by_reason:
            raise StorageError(
                f"The counts do not add up: {self.images} images, {self.embedded} embedded, "
                f"{self.failed} failed, {by_reason} failures by reason"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of a snapshot's manifest.

    Attributes:
        info: snapshot id, creation time, writer, model, number of shards.
        embeddings: one summary a shard, in order.
        failures: one summary a failures file.
        counts: images by outcome.
    """

    info: SnapshotInfo
    embeddings: tuple[ShardSummary, ...]
    failures: tuple[FileSummary, ...]
    counts: Counts

    def __post_init__(self) -> None:
        total = self.info.num_shards
        # By number first: a total that lies must not make names for millions of shards.
        if len(self.embeddings) != total or any(
            summary.file != shard_name(number, total)
            for number, summary in enumerate(self.embeddings)
        ):
            raise StorageError(
                f"The {len(self.embeddings)} shard summaries are not those of {total} shards, "
                "one each, in order; an empty shard is written, too"
            )
        for summary in self.failures:
            if not summary.file.startswith("failures-") or "/" in summary.file:
                raise StorageError(f"{summary.file!r} is no name of a failures file")

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(summary.rows for summary in self.embeddings)

    def file_sizes(self) -> dict[str, int]:
        """Return the size of every listed file by its name."""
        embeddings = {summary.file: summary.bytes for summary in self.embeddings}
        return embeddings | {summary.file: summary.bytes for summary in self.failures}

    def to_json(self) -> bytes:
        """Return the manifest as JSON, with its digest, a file to be read by people, too."""
        fields = self._fields()
        fields["digest"] = digest_of(fields)
        return (json.dumps(fields, ensure_ascii=False, indent=1) + "\n").encode()

    def _fields(self) -> dict[str, Any]:
        info = self.info
        return {
            "format": FORMAT,
            "version": VERSION,
            "snapshot": info.snapshot,
            "created": info.created,
            "writer": info.writer,
            "model": asdict(info.model),
            "sharding": {"hash": SHARD_HASH, "num_shards": info.num_shards},
            "counts": asdict(self.counts),
            "embeddings": [asdict(summary) for summary in self.embeddings],
            "failures": [asdict(summary) for summary in self.failures],
        }

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Manifest:
        """Read a manifest; fields of later writers are ignored, but covered by the digest.

        Args:
            data: the file.
            source: its place, for messages.

        Raises:
            CorruptFileError: it is no manifest, or was changed after it was written.
            StorageError: it is of a later version.
        """
        fields = _parse(data, source)
        if fields.get("digest") != digest_of(fields):
            raise CorruptFileError(
                f"{source} was changed after it was written: its digest does not match. Restore "
                "it from a copy, or embed again"
            )
        try:
            return cls._from_fields(fields)
        except (KeyError, TypeError, AttributeError, FeatureIdError) as error:
            raise CorruptFileError(f"{source} is not a whole manifest: {error}") from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> Manifest:
        sharding = fields["sharding"]
        if sharding["hash"] != SHARD_HASH:
            raise StorageError(f"keys are spread by {sharding['hash']!r}, not {SHARD_HASH!r}")
        head = {name: fields[name] for name in ("snapshot", "created", "writer")}
        info = SnapshotInfo(
            **head,
            model=_record(ModelInfo, fields["model"]),
            num_shards=sharding["num_shards"],
        )
        return cls(
            _checked(info),
            tuple(_record(ShardSummary, entry) for entry in fields["embeddings"]),
            tuple(_record(FileSummary, entry) for entry in fields["failures"]),
            _record(Counts, fields["counts"]),
        )


def digest_of(fields: dict[str, Any]) -> str:
    """Return the hex SHA-256 of a manifest's canonical JSON (RFC 8785) without its digest."""
    rest = {name: value for name, value in fields.items() if name != "digest"}
    text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def count_outcomes(embedded: int, failures_by_reason: dict[str, int]) -> Counts:
    """Return the counts of a run from its embedded images and its failures by reason."""
    failed = sum(failures_by_reason.values())
    by_reason = dict(sorted(failures_by_reason.items()))
    return Counts(embedded + failed, embedded, failed, by_reason)


def build_manifest(
    info: SnapshotInfo,
    embeddings: Sequence[ShardSummary],
    failures: Sequence[FileSummary],
    counts: Counts,
) -> Manifest:
    """Return the manifest of these files, given in any order.

    Raises:
        StorageError: a shard is missing or there twice, or the counts do not fit the files.
    """
    listed = sum(summary.rows for summary in failures)
    if listed != counts.failed:
        raise StorageError(f"The files hold {listed} failures, the counts say {counts.failed}")
    keys = sum(summary.keys for summary in embeddings)
    if keys != counts.embedded:
        raise StorageError(f"The shards hold {keys} images, the counts say {counts.embedded}")
    return Manifest(
        info,
        tuple(sorted(embeddings, key=lambda summary: summary.file)),
        tuple(sorted(failures, key=lambda summary: summary.file)),
        counts,
    )


def _parse(data: bytes, source: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{source} is not JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise CorruptFileError(f"{source} is no manifest of a featureid snapshot")
    if fields.get("version") != VERSION:
        raise StorageError(
            f"{source} has format version {fields.get('version')}, this featureid reads version "
            f"{VERSION}; update featureid"
        )
    return fields


def _record(kind: type[_Record], entry: dict[str, Any]) -> _Record:
    """Make a dataclass from a JSON object, ignoring unknown fields and checking plain types."""
    names = kind.__slots__  # type: ignore[attr-defined]
    return _checked(kind(**{name: entry[name] for name in names if name in entry}))


def _checked(record: _Record) -> _Record:
    hints = {"str": str, "int": int}
    for name, kind in type(record).__annotations__.items():
        value, wanted = getattr(record, name), hints.get(kind)
        if wanted and (type(value) is not wanted or (type(value) is int and value < 0)):
            raise StorageError(f"{name} is {value!r}, not {kind} as it should be")
    return record
