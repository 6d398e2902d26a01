"""Shards against what people keep vectors in today: size, speed, look-ups, memory.

    python benchmarks/format.py [--rows 200000] [--data DIR] [--peers PYTHON] [--json]
    python benchmarks/format.py --batches 5000000

All in one run and on one disk: random unit vectors of 128 float32 with keys of 40 characters, then
real ones, of crops of photos. Rates are MB of raw float32 a second, the median of some rounds in
which the formats take turns. What is read has just been read before, so that it is in the page
cache and the memory it needs is at hand. Writing is measured in seconds of CPU, that is, a core,
since disks differ; the wall clock, with the forced write to the disk where a format does that,
stands beside it. ``--peers`` names a Python that has the package embedding-reader, whose pins
conflict with this project's.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from featureid.storage import (
    ModelInfo,
    RunRecord,
    SnapshotInfo,
    SnapshotWriter,
    files,
    layout,
    open_snapshot,
    published,
    shard_name,
    shard_of,
)
from featureid.storage.files import RangeReader
from featureid.storage.shard import ShardEncoder, make_header, row_columns

ROOT = Path(__file__).parents[1]
WRITES = 5
ROUNDS = 7
DIMENSION = 128
SHARDS = 4
LOOK_UPS = 300
MILLION = 1_000_000
ID = "20261123T054231Z-3f9a1c"

Matrix = npt.NDArray[np.float32]


def random_vectors(rows: int) -> Matrix:
    """Return unit vectors of normal numbers, which no compression gets smaller than others."""
    matrix = np.random.default_rng(0).standard_normal((rows, DIMENSION), np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def real_vectors(count: int, data: Path | None) -> Matrix:
    """Return the image model's vectors of ``count`` crops of photos or a few less."""
    import skimage
    from PIL import Image

    from featureid.images import resize_image
    from featureid.models import open_backend, resolve_model

    bundle = resolve_model("image")
    backend, size = open_backend(bundle, "litert"), bundle.preprocessing
    photos = []
    for path in sorted((data or Path(skimage.__file__).parent / "data").rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            try:
                photos.append(np.asarray(Image.open(path).convert("RGB")))
            except OSError:
                continue  # a folder of test pictures has broken ones
    rng, parts = np.random.default_rng(0), []
    for start in range(0, count, 8):
        crops = []
        for photo in (photos[(start + i) % len(photos)] for i in range(8)):
            height, width = (int(side * rng.uniform(0.3, 1)) or 1 for side in photo.shape[:2])
            top = int(rng.integers(photo.shape[0] - height + 1))
            left = int(rng.integers(photo.shape[1] - width + 1))
            crop = np.ascontiguousarray(photo[top : top + height, left : left + width])
            crops.append(resize_image(crop, size.height, size.width))
        parts.append(backend.embed(np.stack(crops)))
    matrix = np.concatenate(parts)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def keys_of(rows: int) -> list[str]:
    """Return keys such as object stores have."""
    return [f"s3://bucket/photos/2026/11/{number:09d}.jpg" for number in range(rows)]


@dataclass
class Format:
    """A way to keep vectors.

    Attributes:
        name: for the table.
        write: matrix and keys into a folder.
        read: folder and threads -> the matrix.
        threads: numbers of threads that it can read with.
        size: of its files, in bytes.
        figures: what was measured, a list of values each.
    """

    name: str
    write: Callable[[Path, Matrix, Sequence[str]], None]
    read: Callable[[Path, int], Any]
    threads: tuple[int, ...] = (1,)
    size: int = 0
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, figure: str, value: float) -> None:
        """Keep one measured value."""
        self.figures.setdefault(figure, []).append(value)

    def median(self, figure: str) -> float | None:
        """Return the median of what was measured, or None."""
        return statistics.median(self.figures[figure]) if figure in self.figures else None


def write_snapshot(output: Path, shards: Sequence[tuple[list[str], Matrix]]) -> None:
    """Write and publish a snapshot of keys and vectors that :func:`spread` has sorted."""
    model = ModelInfo("image", "ab" * 32, "cd" * 32, DIMENSION)
    info = SnapshotInfo(ID, "2026-11-23T05:42:31Z", "benchmark", model, len(shards))
    writer = SnapshotWriter(str(output), info, RunRecord.begin(info, {}, {}))
    writer.begin()
    summaries, specs = [], row_columns(model)[:2]
    for number, (keys, matrix) in enumerate(shards):
        name = shard_name(number, len(shards))
        starts = range(0, len(keys), layout.BLOCK_ROWS)
        blocks = (
            {"key": keys[i : i + layout.BLOCK_ROWS], "vector": matrix[i : i + layout.BLOCK_ROWS]}
            for i in starts
        )
        encoder = ShardEncoder(name, make_header(info, number, len(keys), specs), blocks)
        files.write_atomic(f"{writer.folder}/{name}", encoder)
        summaries.append(encoder.summary)
    writer.commit(info, summaries, failures=[], changes={})


def spread(keys: Sequence[str], matrix: Matrix, count: int) -> list[tuple[list[str], Matrix]]:
    """Return keys and vectors by shard and sorted, as a pipeline has them before it writes.

    With fewer vectors than keys, every shard gets the same ones.
    """
    shards: list[list[int]] = [[] for _ in range(count)]
    for row, key in enumerate(keys):
        shards[shard_of(key, count)].append(row)
    spread = []
    for rows in shards:
        rows.sort(key=keys.__getitem__)
        vectors = matrix[rows] if len(matrix) == len(keys) else matrix[: len(rows)]
        spread.append(([keys[row] for row in rows], vectors))
    return spread


def published_loop(file: BinaryIO) -> Matrix:
    """Read many vectors as the published reader does: one by one, from an open file."""
    (count,) = struct.unpack("I", file.read(4))
    found = []
    for _ in range(count):
        (length,) = struct.unpack("I", file.read(4))
        found.append(np.frombuffer(file.read(length), np.float32))
    return np.stack(found)


def read_published(path: Path, opened: Callable[..., Any]) -> Matrix:
    """Read a published file that ``opened`` opens."""
    with opened(path, "rb") as file:
        return published_loop(file)


def write_parquet(path: Path, matrix: Matrix, keys: Sequence[str], **options: Any) -> None:
    """Write keys and vectors, 65,536 rows a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), DIMENSION)
    table = pa.table({"key": pa.array(keys), "vector": vectors})
    pq.write_table(table, path, row_group_size=65_536, **options)


def read_parquet(path: Path, threads: int) -> Matrix:
    """Read the vectors into a matrix."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(threads)
    column = pq.read_table(path, columns=["vector"], use_threads=threads > 1)["vector"]
    numbers = column.combine_chunks().flatten().to_numpy()
    matrix: Matrix = numbers.reshape(-1, DIMENSION)
    return matrix


def write_npy_gz(folder: Path, matrix: Matrix, _: Sequence[str]) -> None:
    """Write a gzipped .npy file."""
    with gzip.open(folder / "x.npy.gz", "wb", compresslevel=1) as file:
        np.save(file, matrix)


def read_npy_gz(folder: Path, _: int) -> Matrix:
    """Read it."""
    with gzip.open(folder / "x.npy.gz") as file:
        matrix: Matrix = np.load(file)
    return matrix


SPLIT = {
    "compression": "zstd",
    "use_byte_stream_split": ["vector.list.element"],
    "use_dictionary": False,
}
PLAIN = {"compression": "none", "use_dictionary": False}


def formats() -> list[Format]:
    """Return everything that is compared; only the first comes from a snapshot."""
    many = published.write_multiple_embeddings
    return [
        Format("featureid", lambda *_: None, lambda f, t: open_snapshot(str(f)).vectors(t), (1, 2)),
        Format(
            "published .bin.gz, its loop",
            lambda f, m, _: (f / "x").write_bytes(gzip.compress(many(m), 1)) and None,
            lambda f, _: read_published(f / "x", gzip.open),
        ),
        Format(
            "published .bin, its loop",
            lambda f, m, _: (f / "x").write_bytes(many(m)) and None,
            lambda f, _: read_published(f / "x", open),
        ),
        Format(
            "published .bin, vectorised",
            lambda f, m, _: (f / "x").write_bytes(many(m)) and None,
            lambda f, _: published.read_multiple_embeddings((f / "x").read_bytes()),
        ),
        Format(
            ".npy",
            lambda f, m, _: np.save(f / "x.npy", m),
            lambda f, _: np.load(f / "x.npy"),
        ),
        Format(".npy.gz", write_npy_gz, read_npy_gz),
        Format(
            "Parquet zstd + split",
            lambda f, m, k: write_parquet(f / "x.parquet", m, k, **SPLIT),
            lambda f, t: read_parquet(f / "x.parquet", t),
            (1, 2),
        ),
        Format(
            "Parquet uncompressed",
            lambda f, m, k: write_parquet(f / "x.parquet", m, k, **PLAIN),
            lambda f, t: read_parquet(f / "x.parquet", t),
            (1, 2),
        ),
    ]


def compare(matrix: Matrix, folder: Path) -> list[Format]:
    """Write and read the matrix in every format, taking turns, and return what was measured."""
    keys, raw, found = keys_of(len(matrix)), matrix.nbytes / 1e6, formats()
    shards = spread(keys, matrix, SHARDS)
    found[0].write = lambda f, *_: write_snapshot(f, shards)
    for _ in range(WRITES):
        for number, kept in enumerate(found):
            place = folder / str(number)
            place.mkdir(exist_ok=True)
            touch_memory(4 * matrix.nbytes)
            cpu, wall = time.process_time(), time.perf_counter()
            kept.write(place, matrix, keys)
            kept.note("write", raw / (time.process_time() - cpu))
            kept.note("write_wall", raw / (time.perf_counter() - wall))
    # Only now: what has just been written is read more slowly, whatever wrote it.
    for _ in range(ROUNDS):
        for number, kept in enumerate(found):
            place = folder / str(number)
            for threads in kept.threads:
                touch_memory(4 * matrix.nbytes)
                kept.read(place, threads)
                cpu, wall = time.process_time(), time.perf_counter()
                result = kept.read(place, threads)
                kept.note(f"read_{threads}", raw / (time.perf_counter() - wall))
                kept.note(f"read_cpu_{threads}", raw / (time.process_time() - cpu))
                if result.shape != matrix.shape:
                    raise SystemExit(f"{kept.name} read {result.shape}")
                del result
    for number, kept in enumerate(found):
        place = folder / str(number)
        kept.size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        kept.note("peak", in_own_process("--read-once", str(number), str(place)))
    return found


def touch_memory(size: int) -> None:
    """Take so many bytes and give them back.

    A virtual machine may have to ask its host for memory that nobody has used for a while, which
    takes several times as long as to read a file: whoever came first would pay for all.
    """
    np.ones(size, np.uint8)


def in_own_process(*arguments: str) -> float:
    """Run this script in a process of its own, and return the number that it prints."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return float(done.stdout)


def peak_mb() -> float:
    """Return the most memory that this process has had, in MB."""
    try:
        # Not ru_maxrss, which on Linux starts with that of the process that called fork.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def look_ups(folder: Path) -> dict[str, float]:
    """Return look-ups a second and bytes that one touches, in a snapshot of a million rows."""
    keys = keys_of(MILLION)
    write_snapshot(folder, spread(keys, random_vectors(MILLION // 10), 12))
    rng = np.random.default_rng(1)
    touched: list[int] = []
    real = RangeReader.read

    def counted(self: RangeReader, start: int, length: int) -> bytes:
        touched.append(length)
        return real(self, start, length)

    RangeReader.read = counted  # type: ignore[method-assign]
    sizes = []
    for number in rng.integers(MILLION, size=20):
        touched.clear()
        open_snapshot(str(folder))[keys[number]]
        sizes.append(sum(touched))
    RangeReader.read = real  # type: ignore[method-assign]
    snapshot = open_snapshot(str(folder))
    wanted = [keys[number] for number in rng.integers(MILLION, size=LOOK_UPS)]
    for key in wanted[:50]:
        snapshot[key]  # every index is read by now
    start = time.perf_counter()
    for key in wanted:
        snapshot[key]
    return {
        "lookup_bytes": max(sizes),
        "lookups_per_s": LOOK_UPS / (time.perf_counter() - start),
    }


def parquet_look_ups(matrix: Matrix, folder: Path) -> float:
    """Return look-ups a second in the compressed Parquet file, by its statistics."""
    import pyarrow.parquet as pq

    keys = keys_of(len(matrix))
    write_parquet(folder / "x.parquet", matrix, keys, **SPLIT)
    start = time.perf_counter()
    for number in range(5):
        pq.read_table(folder / "x.parquet", filters=[("key", "==", keys[number * 7919])])
    return 5 / (time.perf_counter() - start)


EMBEDDING_READER = """
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


def embedding_reader(python: str, matrix: Matrix, folder: Path) -> dict[str, float]:
    """Return MB/s of the package embedding-reader, with the threads that it chooses."""
    found = {}
    for kind in ("npy", "parquet"):
        place = folder / f"reader_{kind}"
        place.mkdir()
        if kind == "npy":
            np.save(place / "x.npy", matrix)
        else:
            write_parquet(place / "x.parquet", matrix, keys_of(len(matrix)), **SPLIT)
        command = [python, "-c", EMBEDDING_READER, str(place), kind]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[f"embedding_reader_{kind}_mb_per_s"] = float(done.stdout.split()[-1])
    return found


def batches_peak(rows: int, folder: Path) -> float:
    """Write a snapshot of ``rows`` rows and return the peak of a process that reads its batches."""
    count = -(-rows // 80_000)
    write_snapshot(folder, spread(keys_of(rows), random_vectors(90_000), count))
    return in_own_process("--read-batches", str(rows), str(folder))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure everything, print the tables, and return the figures by name."""
    rows, peers = options.rows, options.peers
    result: dict[str, Any] = {"rows": rows}
    matrix = random_vectors(rows)
    found = compare(matrix, folder)
    print_table(f"{rows} random unit vectors", found, matrix.nbytes)
    own, parquet = found[0], found[6]
    result |= {
        "size_ratio": own.size / matrix.nbytes,
        "write_mb_per_s": own.median("write"),
        "write_wall_mb_per_s": own.median("write_wall"),
        "read_mb_per_s_1": own.median("read_1"),
        "read_mb_per_s_2": own.median("read_2"),
        "read_cpu_mb_per_s_1": own.median("read_cpu_1"),
        "published_mb_per_s": found[1].median("read_1"),
        "published_raw_mb_per_s": found[2].median("read_1"),
        "parquet_mb_per_s": parquet.median("read_1"),
        "parquet_mb_per_s_2": parquet.median("read_2"),
        "parquet_cpu_mb_per_s": parquet.median("read_cpu_1"),
        "published_cpu_mb_per_s": found[1].median("read_cpu_1"),
        "parquet_size_ratio": parquet.size / matrix.nbytes,
        "npy_mb_per_s": found[4].median("read_1"),
        "peak_mb": own.median("peak"),
        "parquet_lookups_per_s": parquet_look_ups(matrix, folder),
    }
    if peers:
        result |= embedding_reader(peers, matrix, folder)
    del matrix
    real = real_vectors(options.crops, options.data)
    real_found = compare(real, folder)
    print_table(f"{len(real)} real vectors", real_found, real.nbytes)
    result |= {
        "real_rows": len(real),
        "real_size_ratio": real_found[0].size / real.nbytes,
        "real_read_mb_per_s_1": real_found[0].median("read_1"),
        "real_write_mb_per_s": real_found[0].median("write"),
        "real_parquet_size_ratio": real_found[6].size / real.nbytes,
        "real_published_size_ratio": real_found[1].size / real.nbytes,
    }
    result |= look_ups(folder / "million")
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}


def print_table(title: str, found: list[Format], raw: int) -> None:
    """Print one line a format."""
    columns = ("write", "write_wall", "read_1", "read_2", "read_cpu_1", "peak")
    print(f"\n{title}: MB/s of raw float32; write and read_cpu: of CPU time; peak in MB")
    print(f"{'':<30}{'size/raw':>10}" + "".join(f"{name:>12}" for name in columns))
    for kept in found:
        cells = [kept.median(name) for name in columns]
        text = "".join(f"{'-' if cell is None else format(cell, '.0f'):>12}" for cell in cells)
        print(f"{kept.name:<30}{kept.size / raw:>10.3f}{text}", flush=True)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--data", type=Path, help="a folder of photos to take crops of")
    parser.add_argument("--crops", type=int, default=4000, help="real vectors")
    parser.add_argument("--peers", metavar="PYTHON", help="one that has embedding-reader")
    parser.add_argument("--batches", type=int, metavar="ROWS", help="only the memory of batches")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    parser.add_argument("--read-once", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read-batches", type=int, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read_once is not None:
        formats()[options.read_once].read(options.folder, 1)
        print(peak_mb())
        return
    if options.read_batches is not None:
        rows = sum(len(keys) for keys, _ in open_snapshot(str(options.folder)).batches(65_536))
        if rows != options.read_batches:
            raise SystemExit(f"{rows} rows were read")
        print(peak_mb())
        return
    with tempfile.TemporaryDirectory() as scratch:
        if options.batches:
            result = {
                "rows": options.batches,
                "batches_peak_mb": batches_peak(options.batches, Path(scratch)),
            }
        else:
            result = measure(options, Path(scratch))
    print()
    for name, value in result.items():
        print(f"{name:<36}{value}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
