"""Estimate a group run without writing anything."""

from __future__ import annotations

import time
from dataclasses import dataclass

from featureid.estimate import peak_memory
from featureid.jobs.group import describe
from featureid.jobs.options import GroupOptions
from featureid.jobs.plan_match import stored_row_bytes
from featureid.matching.cell_steps import edges_of_cell
from featureid.matching.cells import NEAREST_PIVOTS, SETS, share_of_pivots
from featureid.matching.parts import cut, joined

# Rows of the sample, which takes a second or two.
_SAMPLE_ROWS = 1 << 14
# How often a worker holds the vectors of a part: as read, without copies, and by cells.
_TIMES_HELD = 3


@dataclass(frozen=True)
class GroupEstimate:
    """What a group run will do and cost.

    Attributes:
        rows: number of rows of the snapshot.
        sets: number of sets of cells.
        cells: number of cells in each set.
        tasks: number of tasks that read the snapshot.
        bytes_read: bytes of its keys and vectors, which are read twice, all tasks together.
        bytes_sent: bytes of the rows that are sent to their cells.
        pairs_per_cpu_s: pairs compared per second of CPU time, on a core of this machine.
        cpu_s: seconds of CPU time of all workers, reading included, but not sending.
        worker_mb: peak memory of a worker process that runs one task at a time.
    """

    rows: int
    sets: int
    cells: int
    tasks: int
    bytes_read: int
    bytes_sent: int
    pairs_per_cpu_s: float
    cpu_s: float
    worker_mb: float


def plan_group(options: GroupOptions) -> GroupEstimate:
    """Estimate what grouping with these options would do and cost; some rows are compared here.

    Args:
        options: as for :func:`featureid.jobs.group.run`; ``output`` may be empty.

    Raises:
        FeatureIdError: the snapshot cannot be used.
    """
    plan = describe(options)
    snapshot, parts = plan.open(), plan.parts_to_read()
    rows = snapshot.num_rows
    cells = max(1, round(rows * share_of_pivots(rows)))
    # With the pivots, and with the rows of cells, of which each row is in two.
    pairs = rows * cells + (NEAREST_PIVOTS * rows) ** 2 / cells / 2
    row_bytes = 4 * snapshot.model.dimension
    read_s, rate = 0.0, 1.0
    if parts:
        # Keys are spread over shards at random, so that the first rows are like any others.
        started = time.process_time()
        sample = plan.read(snapshot, cut(joined(parts), _SAMPLE_ROWS)[0])
        loaded = time.process_time()
        edges_of_cell(sample, options.threshold)
        read_s = (loaded - started) / len(sample)
        rate = len(sample) ** 2 / 2 / max(time.process_time() - loaded, 1e-6)
    held = _TIMES_HELD * min(rows, plan.sizes.read) + SETS * cells
    return GroupEstimate(
        rows=rows,
        sets=SETS,
        cells=cells,
        tasks=len(parts),
        bytes_read=round(2 * rows * stored_row_bytes(snapshot)),
        bytes_sent=SETS * NEAREST_PIVOTS * rows * (row_bytes + 8),
        pairs_per_cpu_s=round(rate),
        cpu_s=round(SETS * pairs / rate + 2 * rows * read_s, 1),
        worker_mb=round((peak_memory() + held * row_bytes) / 1e6, 1),
    )
