"""The manifest: the files of a snapshot. A snapshot is complete once it has one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec

from featureid.errors import CorruptFileError, NewerVersionError, StorageError
from featureid.keys import ImageLocations
from featureid.storage.records import Failure, ModelInfo, SnapshotInfo
from featureid.storage.shard import ShardSummary, shard_name
from featureid.stored_json import (
    PositiveSize,
    Size,
    canonical_json,
    convert_json,
    decode_json,
    encode_json,
    refuse_newer,
)

FORMAT = "featureid-snapshot"
VERSION = 1
#: Name of the rule in :func:`featureid.storage.shard.shard_of`.
SHARD_HASH: Literal["sha256-le64-mod"] = "sha256-le64-mod"

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class FileSummary:
    """A failures file in the manifest: name, rows, size, hexadecimal SHA-256."""

    file: str
    rows: Size
    bytes: Size
    sha256: str

    def __post_init__(self) -> None:
        if not self.file.startswith("failures-") or "/" in self.file:
            raise StorageError(f"{self.file!r} is not the name of a failures file")


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of images in a snapshot by outcome.

    Attributes:
        images: all of them.
        embedded: those with rows.
        failed: those without.
        failures_by_reason: reason code -> number of failed images.
        kept: those of the embedded ones that could not be read, so that rows of an earlier run
            were kept.
    """

    images: Size
    embedded: Size
    failed: Size
    failures_by_reason: dict[str, Size] = field(default_factory=dict)
    kept: Size = 0

    def __post_init__(self) -> None:
        if self.kept > self.embedded:
            raise StorageError(
                f"{self.kept} of {self.embedded} embedded images cannot be kept ones"
            )
        by_reason = sum(self.failures_by_reason.values())
        if self.images != self.embedded + self.failed or self.failed != by_reason:
            raise StorageError(
                f"The counts do not add up: {self.images} images, {self.embedded} embedded, "
                f"{self.failed} failed, {by_reason} failures by reason"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a snapshot.

    Attributes:
        info: snapshot id, creation time, writer, model, number of shards, locations of the images.
        embeddings: one summary per shard, in order.
        failures: one summary per failures file.
        counts: numbers of images by outcome.
        sequence: what number of publication in its output folder it is, from 1; chosen as it is
            published.
    """

    info: SnapshotInfo
    embeddings: tuple[ShardSummary, ...]
    failures: tuple[FileSummary, ...]
    counts: Counts
    sequence: PositiveSize = 1

    def __post_init__(self) -> None:
        total = self.info.num_shards
        # The count first: a wrong total must not make names for millions of shards.
        if len(self.embeddings) != total or any(
            summary.file != shard_name(number, total)
            for number, summary in enumerate(self.embeddings)
        ):
            raise StorageError(
                f"The {len(self.embeddings)} shard summaries are not those of {total} shards, "
                "one per shard, in order; empty shards are written as well"
            )

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(summary.rows for summary in self.embeddings)

    def file_sizes(self) -> dict[str, int]:
        """Return the size of every listed file by its name."""
        embeddings = {summary.file: summary.bytes for summary in self.embeddings}
        return embeddings | {summary.file: summary.bytes for summary in self.failures}

    def to_json(self) -> bytes:
        """Return the manifest as indented JSON, with its digest."""
        info = self.info
        record = _ManifestRecord(
            format=FORMAT,
            version=VERSION,
            snapshot=info.snapshot,
            sequence=self.sequence,
            created=info.created,
            writer=info.writer,
            model=info.model,
            sharding=_Sharding(SHARD_HASH, info.num_shards),
            locations=info.locations,
            counts=self.counts,
            embeddings=self.embeddings,
            failures=self.failures,
        )
        return encode_manifest(record)

    @classmethod
    def from_json(cls, data: bytes, source: str) -> Manifest:
        """Parse a manifest; unknown fields are ignored, but covered by the digest.

        Args:
            data: the file.
            source: name of the file, for messages.

        Raises:
            CorruptFileError: it is not a manifest, or was changed after it was written; the message
                names the field.
            NewerVersionError: it is of a later version.
        """
        return decode_manifest(data, source, _ManifestRecord, FORMAT, VERSION).manifest()


class _Sharding(msgspec.Struct, frozen=True):
    """How keys are spread over shards."""

    hash: Literal["sha256-le64-mod"]
    num_shards: Size


class _ManifestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of a manifest, without its digest."""

    format: str
    version: int
    snapshot: str
    sequence: PositiveSize
    created: str
    writer: str
    model: ModelInfo
    sharding: _Sharding
    locations: ImageLocations = msgspec.field(default_factory=ImageLocations)
    counts: Counts
    embeddings: tuple[ShardSummary, ...]
    failures: tuple[FileSummary, ...]

    def __post_init__(self) -> None:
        self.manifest()  # Also checks the fields against each other.

    def manifest(self) -> Manifest:
        info = SnapshotInfo(
            self.snapshot,
            self.created,
            self.writer,
            self.model,
            self.sharding.num_shards,
            self.locations,
        )
        return Manifest(info, self.embeddings, self.failures, self.counts, self.sequence)


def encode_manifest(record: Any) -> bytes:
    """Return the record of a manifest as indented JSON, with its digest."""
    fields = msgspec.to_builtins(record)
    fields["digest"] = digest_of(fields)
    return msgspec.json.format(encode_json(fields), indent=1) + b"\n"


def decode_manifest(
    data: bytes, source: str, kind: type[_Record], form: str, newest: int
) -> _Record:
    """Return the record that :func:`encode_manifest` wrote; unknown fields are ignored.

    Args:
        data: the file.
        source: name of the file, for messages.
        kind: type of the record.
        form: the value of its field ``format``.
        newest: the newest version that can be read.

    Raises:
        CorruptFileError: it is not such a manifest, or was changed after it was written; the
            message names the field.
        NewerVersionError: it is of a later version.
    """
    try:
        fields = decode_json(data, dict[str, Any])
        if fields.get("format") != form:
            raise ValueError(f"its format is {fields.get('format')!r}, not {form!r}")
        refuse_newer(fields.get("version"), newest)
        if fields.get("digest") != digest_of(fields):
            raise ValueError(
                "it was changed after it was written: its digest does not match. Restore it from a "
                "copy, or run again what made it"
            )
        return convert_json(fields, kind)
    except NewerVersionError as error:
        raise NewerVersionError(f"{source}: {error}") from error
    except (ValueError, StorageError) as error:
        raise CorruptFileError(f"{source}: {error}") from error


def sequence_of(data: bytes) -> int | None:
    """Return the sequence number in a manifest of any kind and version; None if it is damaged."""
    try:
        fields = decode_json(data, dict[str, Any])
        is_whole = fields.get("digest") == digest_of(fields)
        return convert_json(fields.get("sequence"), PositiveSize) if is_whole else None
    except ValueError:
        return None


def digest_of(fields: Mapping[str, Any]) -> str:
    """Return the hex SHA-256 of the canonical JSON of a manifest's fields without its digest.

    Raises:
        ValueError: they have no canonical JSON.
    """
    rest = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(canonical_json(rest)).hexdigest()


def count_outcomes(embedded: int, failures: Iterable[Failure]) -> Counts:
    """Return the counts of a snapshot with rows of ``embedded`` images, and these failures."""
    kept, by_reason = 0, Counter[str]()
    for failure in failures:
        if failure.has_rows:
            kept += 1
        else:
            by_reason[failure.reason] += 1
    failed = by_reason.total()
    return Counts(embedded + failed, embedded, failed, dict(sorted(by_reason.items())), kept)


def build_manifest(
    info: SnapshotInfo,
    embeddings: Sequence[ShardSummary],
    failures: Sequence[FileSummary],
    counts: Counts,
) -> Manifest:
    """Return the manifest of these files, which may be in any order.

    Raises:
        StorageError: a shard is missing or duplicate, or the counts differ from the files.
    """
    listed = sum(summary.rows for summary in failures)
    if listed != counts.failed + counts.kept:
        counted = counts.failed + counts.kept
        raise StorageError(f"The files hold {listed} failures, the counts say {counted}")
    keys = sum(summary.keys for summary in embeddings)
    if keys != counts.embedded:
        raise StorageError(f"The shards hold {keys} images, the counts say {counts.embedded}")
    return Manifest(
        info,
        tuple(sorted(embeddings, key=lambda summary: summary.file)),
        tuple(sorted(failures, key=lambda summary: summary.file)),
        counts,
    )
