"""How fast galleries are searched, and how much is found, beside FAISS and NumPy.

    python benchmarks/search.py [--rows N...] [--queries N] [--stream-rows N] [--json]

Galleries of realistic rows, and one of white noise, are searched for the ten best of each query and
for all rows above a threshold; 2 % of the rows and half of the queries are views of rows.  Speeds
are queries per second of CPU time on one thread, all in one run:

- ``exact`` and ``above``: ``featureid.Gallery``, with keys and proven scores;
- ``index``: the same with the index of ``featureid index``, for the rows above the threshold;
- ``FAISS flat``: ``IndexFlatIP``, ``range_search`` of it, and HNSW with 16 links, the latter up to
  100,000 rows since it takes minutes to build;
- ``product``: NumPy's matrix product alone, a bound of exact search.

``exact_ratio`` is the speed of ``exact`` relative to FAISS's flat index, ``product_ratio`` to the
product, and ``threshold_ratio`` that of ``index`` relative to ``above``.  ``threshold_recall`` is
the share of the rows above the threshold that the index finds; it is not used for white noise, on
which that cannot be measured.  ``index_s`` are the CPU seconds that it takes to make.

``one_query_ms`` is the wall time of a single query.  ``open_ratio`` is how long it takes to open a
gallery, on all cores, relative to ``np.load`` and ``IndexFlatIP.add``.  ``stream_mb`` is the peak
memory of a process that searches a gallery without holding it.  The JSON object has the figures of
the largest gallery of realistic rows.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import faiss
import numpy as np
from matching_rows import DIMENSION, Matrix, realistic, views, white_noise
from vector_formats import SHARDS, spread, write_snapshot

from featureid import Gallery, open_snapshot
from featureid.matching.index_file import write_index

K = 10
THRESHOLD = 0.9
_ROUNDS = 3
# FAISS's flat index needs a second for so many on a million rows.
_PEER_QUERIES = 100
_HNSW_ROWS = 100_000
_PART = 2048
_STREAM_SHARDS = 16

Figures = dict[str, float]


def main() -> None:
    """Run the benchmark."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    add("--queries", type=int, default=500, help="default: %(default)s")
    add("--stream-rows", type=int, default=5_000_000, help="default: %(default)s")
    add("--stream-once", metavar="FOLDER", help="for this script: search a snapshot, print MB")
    arguments = parser.parse_args()
    common.use_one_thread()
    if arguments.stream_once:
        Gallery(arguments.stream_once, stream=True).search(_stream_rows(1))
        print(common.peak_mb())
        return
    table: dict[str, Figures] = {}
    sizes = sorted(arguments.rows)
    cases = [("realistic", realistic, size) for size in sizes] + [("noise", white_noise, sizes[-1])]
    for name, make, size in cases:
        with tempfile.TemporaryDirectory() as scratch:
            rows = _with_copies(make(size, np.random.default_rng(1)))
            queries = _queries(rows, make(arguments.queries, np.random.default_rng(2)))
            table[f"{name} {size:,}"] = _measure(rows, queries, Path(scratch))
    result = dict(table[f"realistic {sizes[-1]:,}"])
    if arguments.stream_rows:
        result["stream_mb"] = _stream_mb(arguments.stream_rows)
    common.print_result(result, arguments.json, _table(table, result))


def _with_copies(rows: Matrix) -> Matrix:
    """Return rows of which each 50th is a view of another one, as in collections of photos."""
    random = np.random.default_rng(4)
    near = rows[1::50]
    rows[::50][: len(near)] = views(near, random.uniform(0.7, 1, len(near)), random)
    return rows


def _queries(rows: Matrix, new: Matrix) -> Matrix:
    """Return new queries, half of them replaced by views of rows."""
    random = np.random.default_rng(3)
    half = len(new) // 2
    near = rows[random.integers(len(rows), size=half)]
    return np.concatenate([views(near, random.uniform(0.8, 1, half), random), new[half:]])


def _measure(rows: Matrix, queries: Matrix, scratch: Path) -> Figures:
    """Return all figures of one gallery."""
    output = scratch / "out"
    keys = [f"{number:09}.jpg" for number in range(len(rows))]
    write_snapshot(output, spread(keys, rows, SHARDS))
    np.save(scratch / "rows.npy", rows)
    opening = _in_turn(
        {
            "open": lambda: Gallery(output),
            "load": lambda: _flat(np.load(scratch / "rows.npy")),
        },
        time.perf_counter,
    )
    index_s = _seconds(time.process_time, lambda: write_index(open_snapshot(output)))
    gallery, flat = Gallery(output), _flat(rows)
    indexed = Gallery(output, index=True)
    few = queries[:_PEER_QUERIES]
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "exact": (len(queries), lambda: gallery.search(queries, K)),
        "FAISS flat": (len(few), lambda: flat.search(few, K)),
        "product": (len(queries), lambda: _products(queries, rows)),
        "above": (len(queries), lambda: gallery.search(queries, None, THRESHOLD)),
        "index": (len(queries), lambda: indexed.search(queries, None, THRESHOLD)),
        "FAISS range": (len(few), lambda: flat.range_search(few, THRESHOLD)),
    }
    if len(rows) <= _HNSW_ROWS:
        graph = faiss.IndexHNSWFlat(DIMENSION, 16, faiss.METRIC_INNER_PRODUCT)
        graph.add(rows)
        graph.hnsw.efSearch = 256
        ways["HNSW"] = (len(queries), lambda: graph.search(queries, K))
    seconds = _in_turn({name: run for name, (_, run) in ways.items()}, time.process_time)
    speeds = {name: count / seconds[name] for name, (count, _) in ways.items()}
    one = [_seconds(time.perf_counter, partial(gallery.search, q, K)) for q in queries[:20]]
    return {
        **speeds,
        "exact_ratio": speeds["exact"] / speeds["FAISS flat"],
        "product_ratio": speeds["exact"] / speeds["product"],
        "one_query_ms": 1000 * statistics.median(one),
        "open_ratio": opening["open"] / opening["load"],
        "threshold_ratio": speeds["index"] / speeds["above"],
        "threshold_recall": _recall(indexed, gallery, queries),
        "index_s": index_s,
    }


def _recall(indexed: Gallery, exact: Gallery, queries: Matrix) -> float:
    """Return the share of the rows above the threshold that are found by the index."""
    found, there = (g.search(queries, None, THRESHOLD).keys for g in (indexed, exact))
    return sum(map(len, found)) / max(1, sum(map(len, there)))


def _flat(rows: Matrix) -> Any:
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(rows)
    return index


def _products(queries: Matrix, rows: Matrix) -> None:
    for start in range(0, len(rows), _PART):
        queries @ rows[start : start + _PART].T


def _in_turn(ways: dict[str, Callable[[], Any]], clock: Callable[[], float]) -> Figures:
    """Return the median of the seconds of each way, which take turns."""
    return common.medians(
        [{name: _seconds(clock, run) for name, run in ways.items()} for _ in range(_ROUNDS)]
    )


def _seconds(clock: Callable[[], float], run: Callable[[], Any]) -> float:
    start = clock()
    run()
    return clock() - start


def _stream_rows(rows: int) -> Matrix:
    return realistic(rows, np.random.default_rng(1))


def _stream_mb(rows: int) -> float:
    """Return the peak memory of a search in a gallery that is not held in memory."""
    with tempfile.TemporaryDirectory() as scratch:
        keys = [f"{number:09}.jpg" for number in range(rows)]
        # All shards have the same vectors; none has more than its share by a tenth.
        vectors = _stream_rows(rows * 11 // (_STREAM_SHARDS * 10) + 100)
        write_snapshot(Path(scratch), spread(keys, vectors, _STREAM_SHARDS))
        return common.number_from(__file__, "--stream-once", scratch)


def _table(table: dict[str, Figures], result: Figures) -> str:
    names = list(dict.fromkeys(name for figures in table.values() for name in figures))
    lines = [f"{'':<18}" + "".join(f"{case:>22}" for case in table)]
    for name in names:
        cells = (f"{figures[name]:,.3g}" if name in figures else "" for figures in table.values())
        lines.append(f"{name:<18}" + "".join(f"{cell:>22}" for cell in cells))
    if "stream_mb" in result:
        lines.append(f"{'stream_mb':<18}{result['stream_mb']:,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
