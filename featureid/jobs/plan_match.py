"""Estimate a match run without writing anything."""

from __future__ import annotations

import time
from dataclasses import dataclass

from featureid.estimate import peak_memory
from featureid.jobs.match import describe, result_info
from featureid.jobs.options import MatchOptions
from featureid.matching.match_plan import MatchPlan, load
from featureid.matching.partial import PartialMatches, match_part
from featureid.matching.parts import Part, cut, joined, num_rows
from featureid.matching.tiles import Tiling
from featureid.storage.reader import Snapshot
from featureid.storage.results import encoded_size

# Rows of the sample, which takes a second or two.
_SAMPLE_QUERIES = 1024
_SAMPLE_ROWS = 1 << 16
# Bytes in memory of a match with its key, as a Python string of some 60 characters.
_MATCH_BYTES = 150


@dataclass(frozen=True)
class MatchEstimate:
    """What a match run will do and cost.

    Attributes:
        queries: number of rows that are searched for.
        gallery_rows: number of rows that are searched.
        pairs: number of pairs of them that are compared.
        tasks: number of tasks that this is cut into.
        bytes_read: bytes of shards that all tasks read, if each worker reads what it holds once.
        pairs_per_cpu_s: pairs compared per second of CPU time, on a core of this machine.
        cpu_s: seconds of CPU time of all workers with reading, but without their start.
        worker_mb: peak memory of a worker process that runs one task at a time.
        rows: number of matches.
        bytes: size of the files with them.
        files: their number.
    """

    queries: int
    gallery_rows: int
    pairs: int
    tasks: int
    bytes_read: int
    pairs_per_cpu_s: float
    cpu_s: float
    worker_mb: float
    rows: int
    bytes: int
    files: int


@dataclass(frozen=True)
class _Sample:
    """What some queries and rows of the gallery have shown.

    Attributes:
        unit: the queries,
        queries: their number,
        matches: and their matches.
        pairs: number of pairs.
        match_s: seconds of CPU time to compare them.
        read_s: seconds of CPU time to read a row.
    """

    unit: Part
    queries: int
    matches: PartialMatches
    pairs: int
    match_s: float
    read_s: float


def plan_match(options: MatchOptions) -> MatchEstimate:
    """Estimate what matching with these options would do and cost.

    Some rows are matched here and measured. New rows, if only those are to be matched, are looked
    for in this process.

    Args:
        options: as for :func:`featureid.jobs.match.run`; ``output`` may be empty.

    Raises:
        FeatureIdError: a snapshot cannot be used.
    """
    plan = describe(options)
    tiling = plan.tile()
    query, gallery = plan.open()
    pairs = tiling.num_queries * tiling.num_rows
    rows_read = _rows_read(tiling)
    if not pairs:
        return MatchEstimate(
            tiling.num_queries, tiling.num_rows, 0, 0, 0, 0.0, 0.0, 0.0, 0, 0, tiling.num_files
        )
    sample = _match_sample(plan, tiling, query, gallery)
    matches = len(sample.matches.keys)
    rows = matches * tiling.num_queries / sample.queries
    if plan.threshold is not None:
        most = tiling.num_queries * float(tiling.num_rows if plan.k is None else plan.k)
        rows = min(matches * pairs / sample.pairs, most)
    encoded = encoded_size(
        result_info(plan), [plan.result_rows(query, sample.unit, sample.matches)]
    )
    rate = sample.pairs / max(sample.match_s, 1e-6)
    return MatchEstimate(
        queries=tiling.num_queries,
        gallery_rows=tiling.num_rows,
        pairs=pairs,
        tasks=tiling.num_tiles,
        bytes_read=round(rows_read * stored_row_bytes(gallery)),
        pairs_per_cpu_s=round(rate),
        cpu_s=round(pairs / rate + rows_read * sample.read_s, 1),
        worker_mb=round(_worker_bytes(plan, tiling, gallery) / 1e6, 1),
        rows=round(rows),
        bytes=round(rows * encoded / max(1, matches)),
        files=tiling.num_files,
    )


def _match_sample(plan: MatchPlan, tiling: Tiling, query: Snapshot, gallery: Snapshot) -> _Sample:
    # Keys are spread over shards at random, so that the first rows are like any others.
    unit = cut(joined(tiling.units), _SAMPLE_QUERIES)[0]
    part = cut(joined(tiling.gallery), _SAMPLE_ROWS)[0]
    _, queries = load(query, unit)
    started = time.process_time()
    rows, vectors = load(gallery, part)
    loaded = time.process_time()
    matches = match_part(queries, rows, vectors, plan.k, plan.threshold)
    return _Sample(
        unit,
        len(queries),
        matches,
        pairs=len(queries) * len(vectors),
        match_s=time.process_time() - loaded,
        read_s=(loaded - started) / max(1, len(vectors)),
    )


def _rows_read(tiling: Tiling) -> int:
    """Return how many rows all tiles read; what a worker holds counts once."""
    slices = -(-len(tiling.units) // tiling.units_per_tile)
    if tiling.holds_queries:
        return tiling.num_queries + slices * tiling.num_rows
    return tiling.num_rows + len(tiling.gallery) * tiling.num_queries


def stored_row_bytes(snapshot: Snapshot) -> float:
    """Return how many bytes the key and the vector of a row take in the first shard with rows."""
    for shard in range(snapshot.num_shards):
        blocks = snapshot.shard_map(shard).index.blocks
        if blocks:
            members = (m for block in blocks for column in block.columns[:2] for m in column)
            return sum(member.length for member in members) / sum(block.rows for block in blocks)
    return 0.0


def _worker_bytes(plan: MatchPlan, tiling: Tiling, gallery: Snapshot) -> float:
    """Return the peak memory of a worker: that of this process, and what its tile is larger."""
    row = 4 * gallery.model.dimension
    units = tiling.units[: tiling.units_per_tile]
    queries = sum(map(num_rows, units)) if tiling.holds_queries else max(map(num_rows, units))
    rows = max(map(num_rows, tiling.gallery))
    matches = queries * (plan.k or 1)
    more = (max(0, queries - _SAMPLE_QUERIES) + max(0, rows - _SAMPLE_ROWS)) * row
    return peak_memory() + more + matches * _MATCH_BYTES
