"""Shards compared with common ways to store vectors: size, speed, lookups, memory.

    python benchmarks/format.py [--rows 200000] [--data DIR] [--peers PYTHON] [--json]
    python benchmarks/format.py --batches 5000000

Everything runs in turn on one disk: random unit vectors of 128 float32 with keys of 40 characters,
then real vectors of crops of photos.  Rates are MB of raw float32 per second, the median of several
rounds in which the formats take turns.  Files are read twice and the second time counts, so that
they are in the page cache and the memory is at hand.  Writing is measured in CPU seconds, since
disks differ; next to it stands the wall clock, which includes the sync to disk of formats that do
one.  ``--peers`` names a Python that has the package embedding-reader, whose pins conflict with
those of this project.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from vector_formats import (
    DIMENSION,
    SHARDS,
    Format,
    Matrix,
    formats,
    spread,
    write_compressed_parquet,
    write_snapshot,
)

from featureid.images import resize_image
from featureid.models import open_backend, resolve_model
from featureid.storage.files import RangeReader
from featureid.storage.reader import open_snapshot

WRITES = 5
ROUNDS = 7
LOOKUPS = 300
MILLION = 1_000_000
_COLUMNS = ("write", "write_wall", "read_1", "read_2", "read_cpu_1", "peak")

_EMBEDDING_READER = """
import os, sys, time
from embedding_reader import EmbeddingReader
folder, kind = sys.argv[1:]
options = {"embedding_column": "vector"} if kind == "parquet" else {}
rates = []
for _ in range(4):
    start = time.perf_counter()
    reader = EmbeddingReader(embeddings_folder=folder, file_format=kind, **options)
    size = sum(vectors.nbytes for vectors, _ in reader(batch_size=65536, show_progress=False))
    rates.append(size / 1e6 / (time.perf_counter() - start))
print(sorted(rates)[2])
"""


def random_vectors(rows: int) -> Matrix:
    """Return normalized Gaussian vectors, which compress as badly as vectors can."""
    matrix = np.random.default_rng(0).standard_normal((rows, DIMENSION), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def real_vectors(count: int, data: Path | None) -> Matrix:
    """Return the image model's vectors of about ``count`` crops of photos."""
    bundle = resolve_model("image")
    backend, size = open_backend(bundle), bundle.preprocessing
    photos = [np.asarray(photo) for photo in common.photos(data)]
    rng, vectors = np.random.default_rng(0), []
    for start in range(0, count, 8):
        crops = []
        for photo in (photos[(start + i) % len(photos)] for i in range(8)):
            height, width = (int(side * rng.uniform(0.3, 1)) or 1 for side in photo.shape[:2])
            top = int(rng.integers(photo.shape[0] - height + 1))
            left = int(rng.integers(photo.shape[1] - width + 1))
            crop = np.ascontiguousarray(photo[top : top + height, left : left + width])
            crops.append(resize_image(crop, size.height, size.width))
        vectors.append(backend.embed(np.stack(crops)))
    matrix = np.concatenate(vectors)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def keys_of(rows: int) -> list[str]:
    """Return keys like those of object stores."""
    return [f"s3://bucket/photos/2026/11/{number:09d}.jpg" for number in range(rows)]


def compare(matrix: Matrix, scratch: Path) -> list[Format]:
    """Write and read the matrix in every format in turn; return the formats with their figures."""
    keys = keys_of(len(matrix))
    compared = formats(spread(keys, matrix, SHARDS))
    folders = [scratch / str(number) for number in range(len(compared))]
    for _ in range(WRITES):
        for kind, folder in zip(compared, folders, strict=True):
            measure_write(kind, folder, matrix, keys)
    # Only now, since a file that has just been written is read more slowly, whatever wrote it.
    for _ in range(ROUNDS):
        for kind, folder in zip(compared, folders, strict=True):
            for threads in kind.threads:
                measure_read(kind, folder, threads, matrix)
    for number, (kind, folder) in enumerate(zip(compared, folders, strict=True)):
        kind.size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        kind.note("peak", common.number_from(__file__, "--read-once", number, folder))
    return compared


def measure_write(kind: Format, folder: Path, matrix: Matrix, keys: list[str]) -> None:
    """Write the matrix once into an empty folder and note MB/s."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    touch_memory(4 * matrix.nbytes)
    cpu, wall = time.process_time(), time.perf_counter()
    kind.write(folder, matrix, keys)
    kind.note("write", matrix.nbytes / 1e6 / (time.process_time() - cpu))
    kind.note("write_wall", matrix.nbytes / 1e6 / (time.perf_counter() - wall))


def measure_read(kind: Format, folder: Path, threads: int, matrix: Matrix) -> None:
    """Read the matrix twice and note MB/s of the second time."""
    touch_memory(4 * matrix.nbytes)
    kind.read(folder, threads)
    cpu, wall = time.process_time(), time.perf_counter()
    result = kind.read(folder, threads)
    kind.note(f"read_{threads}", matrix.nbytes / 1e6 / (time.perf_counter() - wall))
    kind.note(f"read_cpu_{threads}", matrix.nbytes / 1e6 / (time.process_time() - cpu))
    if result.shape != matrix.shape:
        raise SystemExit(f"{kind.name} returned shape {result.shape}, expected {matrix.shape}")


def touch_memory(size: int) -> None:
    """Allocate and free ``size`` bytes.

    A virtual machine may have to ask its host for memory that has been unused for a while, which
    takes several times as long as reading a file; the first format would pay for all.
    """
    np.ones(size, np.uint8)


def lookups(folder: Path) -> dict[str, float]:
    """Return lookups/s and the bytes that one reads, in a snapshot of a million rows."""
    keys = keys_of(MILLION)
    write_snapshot(folder, spread(keys, random_vectors(MILLION // 10), 12))
    rng = np.random.default_rng(1)
    read: list[int] = []
    real_read = RangeReader.read

    def counted_read(self: RangeReader, start: int, length: int) -> bytes:
        read.append(length)
        return real_read(self, start, length)

    RangeReader.read = counted_read  # type: ignore[method-assign]
    sizes = []
    for number in rng.integers(MILLION, size=20):
        read.clear()
        open_snapshot(str(folder))[keys[number]]
        sizes.append(sum(read))
    RangeReader.read = real_read  # type: ignore[method-assign]
    snapshot = open_snapshot(str(folder))
    wanted = [keys[number] for number in rng.integers(MILLION, size=LOOKUPS)]
    for key in wanted[:50]:
        snapshot[key]  # reads every index
    start = time.perf_counter()
    for key in wanted:
        snapshot[key]
    return {
        "lookup_bytes": max(sizes),
        "lookups_per_s": LOOKUPS / (time.perf_counter() - start),
    }


def parquet_lookups(matrix: Matrix, folder: Path) -> float:
    """Return lookups/s in the compressed Parquet file, which uses its statistics."""
    import pyarrow.parquet as pq

    keys = keys_of(len(matrix))
    write_compressed_parquet(folder, matrix, keys)
    start = time.perf_counter()
    for number in range(5):
        key = keys[number * 7919 % len(keys)]
        pq.read_table(folder / "x.parquet", filters=[("key", "==", key)])
    return 5 / (time.perf_counter() - start)


def embedding_reader(python: str, matrix: Matrix, folder: Path) -> dict[str, float]:
    """Return MB/s of the package embedding-reader, with the threads that it chooses."""
    rates = {}
    for kind in ("npy", "parquet"):
        place = folder / f"reader_{kind}"
        place.mkdir()
        if kind == "npy":
            np.save(place / "x.npy", matrix)
        else:
            write_compressed_parquet(place, matrix, keys_of(len(matrix)))
        command = [python, "-c", _EMBEDDING_READER, str(place), kind]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rates[f"embedding_reader_{kind}_mb_per_s"] = float(done.stdout.split()[-1])
    return rates


def batches_peak(rows: int, folder: Path) -> float:
    """Write a snapshot of ``rows`` rows and return the peak MB of a process reading its batches."""
    count = -(-rows // 80_000)
    write_snapshot(folder, spread(keys_of(rows), random_vectors(90_000), count))
    return common.number_from(__file__, "--read-batches", rows, folder)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything, print the tables, and return the figures by name."""
    matrix = random_vectors(options.rows)
    compared = compare(matrix, folder)
    print(table(f"{len(matrix)} random unit vectors", compared, matrix.nbytes), flush=True)
    own, published, published_raw, npy, parquet = (compared[i] for i in (0, 1, 2, 4, 6))
    result: dict[str, Any] = {
        "rows": len(matrix),
        "size_ratio": own.size / matrix.nbytes,
        "write_mb_per_s": own.median("write"),
        "write_wall_mb_per_s": own.median("write_wall"),
        "read_mb_per_s_1": own.median("read_1"),
        "read_mb_per_s_2": own.median("read_2"),
        "read_cpu_mb_per_s_1": own.median("read_cpu_1"),
        "published_mb_per_s": published.median("read_1"),
        "published_raw_mb_per_s": published_raw.median("read_1"),
        "parquet_mb_per_s": parquet.median("read_1"),
        "parquet_mb_per_s_2": parquet.median("read_2"),
        "parquet_cpu_mb_per_s": parquet.median("read_cpu_1"),
        "published_cpu_mb_per_s": published.median("read_cpu_1"),
        "parquet_size_ratio": parquet.size / matrix.nbytes,
        "npy_mb_per_s": npy.median("read_1"),
        "peak_mb": own.median("peak"),
        "parquet_lookups_per_s": parquet_lookups(matrix, folder),
    }
    if options.peers:
        result |= embedding_reader(options.peers, matrix, folder)
    del matrix
    result |= measure_real(options, folder)
    result |= lookups(folder / "million")
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}


def measure_real(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure the formats on real vectors, print the table, and return the figures by name."""
    matrix = real_vectors(options.crops, options.data)
    compared = compare(matrix, folder)
    print(table(f"{len(matrix)} real vectors", compared, matrix.nbytes), flush=True)
    own, published, parquet = (compared[i] for i in (0, 1, 6))
    return {
        "real_rows": len(matrix),
        "real_size_ratio": own.size / matrix.nbytes,
        "real_read_mb_per_s_1": own.median("read_1"),
        "real_write_mb_per_s": own.median("write"),
        "real_parquet_size_ratio": parquet.size / matrix.nbytes,
        "real_published_size_ratio": published.size / matrix.nbytes,
    }


def table(title: str, compared: list[Format], raw: int) -> str:
    """Return a table with one line per format."""
    lines = [
        f"\n{title}: MB/s of raw float32; write and read_cpu: of CPU time; peak in MB",
        f"{'':<30}{'size/raw':>10}" + "".join(f"{name:>12}" for name in _COLUMNS),
    ]
    for kind in compared:
        cells = [kind.median(name) for name in _COLUMNS]
        text = "".join(f"{'-' if cell is None else format(cell, '.0f'):>12}" for cell in cells)
        lines.append(f"{kind.name:<30}{kind.size / raw:>10.3f}{text}")
    return "\n".join(lines)


def read_batches(folder: Path, expected: int) -> None:
    """Read a snapshot in batches, checking the number of its rows."""
    rows = sum(len(keys) for keys, _ in open_snapshot(str(folder)).batches(65_536))
    if rows != expected:
        raise SystemExit(f"{rows} rows were read, expected {expected}")


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=200_000, help="random vectors; default: %(default)s")
    add("--crops", type=int, default=4000, help="real vectors; default: %(default)s")
    add("--data", type=Path, help="folder of photos to crop")
    add("--peers", metavar="PYTHON", help="a Python that has embedding-reader")
    add("--batches", type=int, metavar="ROWS", help="measure only the memory of batches")
    add("--read-once", type=int, help=argparse.SUPPRESS)
    add("--read-batches", type=int, help=argparse.SUPPRESS)
    add("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_once is not None:
        formats()[options.read_once].read(options.folder, 1)
        print(common.peak_mb())
        return
    if options.read_batches is not None:
        read_batches(options.folder, options.read_batches)
        print(common.peak_mb())
        return
    with tempfile.TemporaryDirectory() as scratch:
        if options.batches:
            peak = batches_peak(options.batches, Path(scratch))
            result = {"rows": options.batches, "batches_peak_mb": peak}
        else:
            result = measure(options, Path(scratch))
    print()
    common.print_result(result, options.json)


if __name__ == "__main__":
    main()
