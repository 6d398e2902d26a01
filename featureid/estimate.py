"""Estimate what a run will do and cost from the listing and a sample of the images."""

from __future__ import annotations

import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from featureid.embedding import BatchedStream, Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.inputs import ImageRef, InputSource, list_source
from featureid.models import ModelBundle
from featureid.refresh import Changes, Planner, RefreshPolicy, with_num_shards
from featureid.storage import layout
from featureid.storage.reader import Snapshot
from featureid.storage.records import EmbeddingRow, Failure, SnapshotInfo
from featureid.storage.shard import ShardEncoder, make_header, row_blocks

# From `python benchmarks/nightly.py` and `plan.py` on 2 cores: seconds to start and end the command
# without the model, images listed and carried per second, memory of the engine, and what each image
# that is embedded or carried adds to it.
_START_S = 2.0
_CARRIED_PER_S = 35_000
_ENGINE_BYTES = 40_000_000
_EMBEDDED_BYTES = 3_500
_CARRIED_BYTES = 100
# Batches that each thread embeds before the clock starts, to warm up caches and allocators.
_WARM_BATCHES = 1
# A second or two shows the rate of the moment only, since other load on the machine comes and goes.
# So a fast sample is extended until it takes this long, up to so many times its size.
_MIN_SAMPLE_S = 6.0
_MAX_SAMPLE_FACTOR = 20


@dataclass(frozen=True)
class Sample:
    """The result of embedding a sample of the images.

    Attributes:
        images: number of images in it; more than asked for if they are fast.
        seconds: time for all of them, after warming up.
        rows: their rows.
        failures_by_reason: reason -> number of images that failed.
        load_s: seconds to load the model.
    """

    images: int
    seconds: float
    rows: Sequence[EmbeddingRow]
    failures_by_reason: dict[str, int]
    load_s: float


@dataclass(frozen=True)
class Estimate:
    """What a run will do and cost on this machine.

    Attributes:
        images: number of images in the inputs.
        changes: of these, how many are new, changed, ...; without a previous snapshot all are new.
        to_embed: number of images to embed, or to read and compare.
        sampled: number of images embedded for the estimate.
        images_per_s: images per second, embedded or failed.
        wall_s: seconds of the whole run.
        peak_mb: peak memory of a run on this machine in one process.
        worker_mb: peak memory of a worker process with as many threads.
        rows: number of rows in the new snapshot.
        bytes: size of its shards.
        num_shards: number of its shards.
        failures_by_reason: reason -> number of images expected to fail, among those embedded.
        unlisted: folders that could not be listed.
        stopped: why the run would stop before it publishes; "" if it would not.
    """

    images: int
    changes: dict[str, int]
    to_embed: int
    sampled: int
    images_per_s: float
    wall_s: float
    peak_mb: float
    worker_mb: float
    rows: int
    bytes: int
    num_shards: int
    failures_by_reason: dict[str, int]
    unlisted: list[str]
    stopped: str = ""


@dataclass(frozen=True)
class Listing:
    """The inputs, compared with the previous snapshot.

    Attributes:
        images: the images to embed or to compare.
        changes: number of images by how they compare.
        unlisted: folders that could not be listed.
        missing: folder -> number of images of the previous snapshot that are gone.
        found: the folders that have images.
    """

    images: list[ImageRef]
    changes: Changes
    unlisted: list[str]
    missing: Counter[str]
    found: set[str]


def plan_sources(
    sources: Iterable[InputSource], previous: Snapshot | None, policy: RefreshPolicy
) -> Listing:
    """List the inputs and compare them with the previous snapshot, in this process.

    Raises:
        UsageError: an input is missing or empty.
        StorageError: the previous snapshot is damaged or cannot be read.
    """
    planner = Planner(previous, policy)
    refs: list[list[ImageRef]] = [[] for _ in range(planner.num_partitions)]
    listing = Listing([], Changes(), [], Counter(), set())
    for item in (item for source in sources for item in list_source(source)):
        folder = planner.found_folder(item)
        if folder is not None:
            listing.found.add(folder)
        if isinstance(item, Failure):
            listing.unlisted.append(item.key)
        else:
            refs[planner.partition_of(item.key)].append(item)
    changes = Changes()
    for partition, failures in enumerate(planner.known_failures()):
        plan = planner.plan(partition, refs[partition], failures, listing.unlisted)
        listing.images.extend([*plan.embed, *(compared.ref for compared in plan.compare)])
        listing.missing.update(plan.missing)
        changes += plan.changes
    return replace(listing, changes=changes)


def embed_sample(
    images: Sequence[ImageRef], bundle: ModelBundle, settings: EmbedSettings, size: int
) -> Sample:
    """Embed a random sample of the images, always the same one, and measure the time.

    Args:
        images: the images to draw from.
        bundle: the model.
        settings: those of the run to estimate.
        size: number of images; if there are more, continue until some seconds have passed.

    Raises:
        UsageError: ``size`` is less than 1.
    """
    if size < 1:
        raise UsageError(f"`sample` is {size}; give 1 or more")
    chosen = random.Random(0).sample(images, min(_MAX_SAMPLE_FACTOR * size, len(images)))
    started = time.monotonic()
    embedder = Embedder(bundle, settings)
    load_s = time.monotonic() - started
    try:
        warm = _WARM_BATCHES * embedder.threads * settings.batch_size
        _embed(embedder, chosen[:warm], settings.batch_size)
        started = time.monotonic()
        sampled = _for_some_time(chosen, size, started + _MIN_SAMPLE_S)
        number, results = _embed(embedder, sampled, settings.batch_size)
        seconds = time.monotonic() - started
    finally:
        embedder.close()
    rows = [result for result in results if isinstance(result, EmbeddingRow)]
    reasons = Counter(result.reason for result in results if isinstance(result, Failure))
    return Sample(number, seconds, rows, dict(sorted(reasons.items())), load_s)


def _for_some_time(refs: Sequence[ImageRef], least: int, until: float) -> Iterator[ImageRef]:
    """Yield at least ``least`` references, then continue until the time ``until``."""
    for number, ref in enumerate(refs):
        if number >= least and time.monotonic() >= until:
            return
        yield ref


def _embed(
    embedder: Embedder, refs: Iterable[ImageRef], batch_size: int
) -> tuple[int, list[EmbeddingRow | Failure]]:
    """Embed images; return how many there were, and their rows and failures."""
    stream: BatchedStream[None] = BatchedStream(embedder, batch_size)
    number = 0
    results: list[EmbeddingRow | Failure] = []
    for ref in refs:
        results += (result for _, result in stream.add(ref, None))
        number += 1
    return number, [*results, *(result for _, result in stream.finish())]


def estimate(
    listing: Listing,
    sample: Sample,
    info: SnapshotInfo,
    previous: Snapshot | None,
    fixed_shards: bool,
) -> Estimate:
    """Extrapolate from a sample.

    Args:
        listing: the inputs.
        sample: the result of embedding some of the images.
        info: the snapshot that would be written.
        previous: the snapshot that rows would be carried from.
        fixed_shards: whether the user chose the number of shards in ``info``.
    """
    to_embed, changes = len(listing.images), listing.changes
    share = to_embed / sample.images if sample.images else 0.0
    rate = sample.images / max(sample.seconds, 1e-3) if sample.images else 0.0
    carried = 0.0 if previous is None else previous.num_rows / max(1, changes.previous)
    rows = round(len(sample.rows) * share + carried * changes.unchanged)
    worker = peak_memory()
    engine = _ENGINE_BYTES + to_embed * _EMBEDDED_BYTES + changes.images * _CARRIED_BYTES
    seconds = _START_S + sample.load_s + changes.images / _CARRIED_PER_S
    return Estimate(
        images=changes.images,
        changes=changes.to_dict(),
        to_embed=to_embed,
        sampled=sample.images,
        images_per_s=round(rate, 2),
        wall_s=round(seconds + (to_embed / rate if rate else 0.0), 1),
        peak_mb=round((worker + engine) / 1e6, 1),
        worker_mb=round(worker / 1e6, 1),
        rows=rows,
        bytes=round(rows * _row_bytes(sample.rows, info, previous)),
        num_shards=with_num_shards(info, changes.images, previous, fixed=fixed_shards).num_shards,
        failures_by_reason={
            reason: round(count * share) for reason, count in sample.failures_by_reason.items()
        },
        unlisted=listing.unlisted,
    )


def _row_bytes(
    rows: Sequence[EmbeddingRow], info: SnapshotInfo, previous: Snapshot | None
) -> float:
    """Return bytes per row: of the encoded sample, or without one of the previous snapshot."""
    if not rows:
        if previous is None:
            return 0.0
        return sum(s.bytes for s in previous.manifest.embeddings) / max(1, previous.num_rows)
    ordered = sorted(rows, key=lambda row: row.order)
    with_rows, without = (_shard_bytes(some, info) for some in (ordered, []))
    return (with_rows - without) / len(ordered)


def _shard_bytes(rows: Sequence[EmbeddingRow], info: SnapshotInfo) -> int:
    header = make_header(info, 0, len(rows))
    return sum(map(len, ShardEncoder("sample", header, row_blocks(rows, info, layout.BLOCK_ROWS))))


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
