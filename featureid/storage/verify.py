"""Check every byte of a snapshot."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from featureid.errors import FeatureIdError, StorageError
from featureid.parallel import map_in_order
from featureid.storage import files, gzip_members, layout
from featureid.storage.columns import Values
from featureid.storage.failure_file import read_failures
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError
from featureid.storage.manifest import FileSummary, Manifest
from featureid.storage.records import STORED_UNIT_TOLERANCE
from featureid.storage.run_record import RUN
from featureid.storage.shard import ShardSummary, row_steps, shard_of
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import MANIFEST, find_snapshot, read_manifest
from featureid.storage.snapshot_shard import SnapshotShard, shards_of

_CHUNK = 1 << 23


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a file: the file, and a message with the place in it."""

    file: str
    message: str


@dataclass
class VerifyReport:
    """What :func:`verify_snapshot` checked and found.

    Attributes:
        folder: the snapshot's folder.
        num_files: number of files read.
        rows: number of rows of which every column could be read.
        bytes: number of bytes read.
        problems: what is wrong; empty if nothing is.
    """

    folder: str
    num_files: int = 0
    rows: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, file: str, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(file, message))

    def include(self, other: VerifyReport) -> None:
        """Add what another report found in other files."""
        self.num_files += other.num_files
        self.rows += other.rows
        self.bytes += other.bytes
        self.problems += other.problems


def verify_snapshot(
    path: str | os.PathLike[str],
    *,
    threads: int = 0,
    on_rows: Callable[[int], None] = lambda _: None,
) -> VerifyReport:
    """Read all of a snapshot and report everything that is wrong.

    Args:
        path: as for :func:`featureid.open_snapshot`.
        threads: shards to check at the same time; 0 means one per CPU core.
        on_rows: called, on any of these threads, with the number of rows each time some have been
            checked.

    Raises:
        StorageError: there is no complete snapshot.
    """
    folder = find_snapshot(os.fspath(path))
    report = VerifyReport(folder)
    try:
        manifest = read_manifest(folder)
    except FeatureIdError as error:
        report.add(files.join(folder, MANIFEST), str(error))
        return report
    report.num_files += 1
    _check_names(folder, manifest, report)
    keys = 0

    def check(shard: SnapshotShard) -> tuple[VerifyReport, int]:
        found = VerifyReport(folder)
        return found, _check_shard(shard, found, on_rows)

    for _, (found, different) in map_in_order(check, shards_of(folder, manifest), threads):
        report.include(found)
        keys += different
    if report.ok and keys != manifest.counts.embedded:
        message = f"{keys} images have rows, the manifest counts {manifest.counts.embedded}"
        report.add(files.join(folder, MANIFEST), message)
    _check_failures(folder, manifest, report)
    return report


def _check_names(folder: str, manifest: Manifest, report: VerifyReport) -> None:
    expected = {*manifest.file_sizes(), MANIFEST, RUN}
    for name in files.list_folder(folder):
        # A writer that was killed leaves a hidden temporary file, which is harmless.
        if name not in expected and not (name.startswith(".") and name.endswith(".tmp")):
            report.add(files.join(folder, name), f"{name} is not listed in the manifest")


def _check_shard(shard: SnapshotShard, report: VerifyReport, on_rows: Callable[[int], None]) -> int:
    """Check one shard and return its number of distinct keys."""
    try:
        with RangeReader(shard.file) as source:
            report.num_files += 1
            _check_file(source, shard.summary, report)
            shard_map = shard.read_map(source)
            _check_members(shard_map, source, report)
            return _check_rows(shard_map, source, shard.summary, report, on_rows)
    except StorageError as error:
        report.add(shard.file, str(error))
        return 0


def _check_file(
    source: RangeReader, summary: ShardSummary | FileSummary, report: VerifyReport
) -> None:
    digest = hashlib.sha256()
    for start in range(0, source.size, _CHUNK):
        digest.update(source.read(start, min(_CHUNK, source.size - start)))
    report.bytes += source.size
    if source.size != summary.bytes:
        message = f"{source.uri} has {source.size} bytes, the manifest says {summary.bytes}"
        report.add(source.uri, message)
    if digest.hexdigest() != summary.sha256:
        report.add(source.uri, f"{source.uri}: its SHA-256 is not that of the manifest")


def _check_members(shard: ShardMap, source: RangeReader, report: VerifyReport) -> None:
    """Check both checksums of every member, including columns that this version cannot read."""
    others = [("the header", shard.index.header), ("the index", shard.index_member)]
    for place, member in (*others, *shard.members()):
        data = source.read(member.offset, member.length)
        try:
            if gzip_members.member_crc(data) != member.crc:
                raise ValueError("its checksum does not match")
            gzip_members.check_trailer(data, gzip_members.unpack(data, member.raw_length))
        except ValueError as error:
            report.add(shard.file, str(shard.damage(member, place, error)))


def _check_rows(
    shard: ShardMap,
    source: RangeReader,
    summary: ShardSummary,
    report: VerifyReport,
    on_rows: Callable[[int], None],
) -> int:
    last: str | None = None
    different = 0
    names = [spec.name for spec in shard.header.columns if spec.known]
    for number, block in enumerate(shard.index.blocks):
        on_rows(block.rows)
        try:
            values = {name: shard.values(source, number, name) for name in names}
        except DamageError as error:
            if not any(problem.message == str(error) for problem in report.problems):
                report.add(shard.file, str(error))
            last = block.last
            continue
        keys, vectors = list(values[layout.KEY]), np.asarray(values[layout.VECTOR])
        faces = values.get(layout.FACE_INDEX)
        start, end = block.columns[0][0].offset, block.columns[-1][-1].end
        for reason in _row_problems(shard, number, keys, faces, vectors, last):
            report.add(
                shard.file, str(DamageError(shard.file, f"block {number}", start, end, reason))
            )
        last = keys[-1]
        different += len(set(keys))
        report.rows += block.rows
    blocks = shard.index.blocks
    ends = (blocks[0].first, blocks[-1].last) if blocks else ("", "")
    if ends != (summary.first_key, summary.last_key):
        report.add(
            shard.file, f"{shard.file}: its first and last key are not those of the manifest"
        )
    if report.ok and different != summary.keys:
        message = (
            f"{shard.file}: it has {different} distinct keys, the manifest says {summary.keys}"
        )
        report.add(shard.file, message)
    return different


def _row_problems(
    shard: ShardMap,
    number: int,
    keys: list[str],
    faces: Values | None,
    vectors: np.ndarray,
    last: str | None,
) -> Iterator[str]:
    block = shard.index.blocks[number]
    if (keys[0], keys[-1]) != (block.first, block.last):
        yield "its first and last key are not those of the index"
    if any(not row < after for row, after in pairwise(row_steps(keys, faces))):
        yield "its keys are not sorted, or there is a duplicate"
    if last is not None and keys[0] <= last:
        yield "its keys do not follow those of the previous block"
    for key in keys:
        if shard_of(key, shard.header.num_shards) != shard.header.shard:
            yield f"the key {key!r} belongs in another shard"
            break
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= STORED_UNIT_TOLERANCE[shard.header.dtype]))
    if bad.size:
        yield f"the vector of {keys[bad[0]]!r} has length {norms[bad[0]]}, not 1"


def _check_failures(folder: str, manifest: Manifest, report: VerifyReport) -> None:
    reasons: Counter[str] = Counter()
    before = len(report.problems)
    for summary in manifest.failures:
        place = files.join(folder, summary.file)
        try:
            with RangeReader(place) as source:
                report.num_files += 1
                _check_file(source, summary, report)
            for failure in read_failures(place, summary):
                reasons["kept" if failure.has_rows else failure.reason] += 1
        except StorageError as error:
            report.add(place, str(error))
    counts = manifest.counts
    listed = {**counts.failures_by_reason, **({"kept": counts.kept} if counts.kept else {})}
    if len(report.problems) == before and dict(reasons) != listed:
        message = f"the failures by reason are {dict(reasons)}, the manifest says {listed}"
        report.add(files.join(folder, MANIFEST), message)
