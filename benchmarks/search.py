"""How fast galleries are searched, and how much is found, beside FAISS, usearch and NumPy.

    python benchmarks/search.py [--rows N...] [--queries N] [--stream-rows N] [--photos DIR]
        [--json]

Galleries of realistic rows, and one of white noise, are searched for the ten best of each query and
for all rows above a threshold; 2 % of the rows and half of the queries are views of rows.  With
``--photos``, one more gallery is made of the vectors of the photos in a folder.  Speeds are queries
per second of CPU time on one thread, all in one run:

- ``exact`` and ``above``: ``featureid.Gallery``, with keys and proven scores;
- ``index`` and ``index above``: the same by the index of ``featureid index``;
- ``FAISS flat``: ``IndexFlatIP``, ``range_search`` of it, and HNSW with 16 links, the latter up to
  100,000 rows since it takes minutes to build;
- ``usearch``, if it is installed: its exact search, and its HNSW up to 100,000 rows;
- ``product``: NumPy's matrix product alone, a bound of exact search.

``exact_ratio`` is the speed of ``exact`` relative to FAISS's flat index, ``product_ratio`` to the
product; ``index_ratio`` that of ``index`` relative to ``exact``, ``threshold_ratio`` that of
``index above`` relative to ``above``.  ``index_recall``, ``threshold_recall`` and those of graphs
are the share of the rows of exact search that they find.  For white noise, ``featureid`` does not
use the index, so that both are 1.  ``index_s`` is the wall time, on all cores, of making the index
for the nearest rows, ``index_cpu_s`` its CPU time and ``index_mb`` the size of its file;
``threshold_s``, ``threshold_cpu_s`` and ``threshold_mb`` are those of the index for thresholds.

``one_query_ms``, ``one_by_index_ms`` and ``one_by_FAISS_ms`` are the wall times of a single query.
Galleries answer it by their rows in eight bits, which the second query makes and tries: that takes
``eight_bits_ms``.  ``open_ratio`` is how long it takes to open a gallery, on all cores, relative to
``np.load`` and ``IndexFlatIP.add``.  ``held_mb``, ``single_mb`` and ``stream_mb`` are the peak
memory of processes that search a gallery: once, several times for one query, and without holding
it.  The JSON object has the figures of the largest gallery of realistic rows.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import common
import faiss
import numpy as np
from matching_rows import DIMENSION, Matrix, PhotoRows, realistic, views, white_noise
from vector_formats import SHARDS, spread, write_snapshot

from featureid import Gallery, open_snapshot
from featureid.matching.index import Use
from featureid.matching.index_file import write_index

K = 10
THRESHOLD = 0.9
_ROUNDS = 3
# FAISS's flat index needs a second for so many on a million rows.
_PEER_QUERIES = 100
_HNSW_ROWS = 100_000
_PART = 2048
_STREAM_SHARDS = 16

# Others' exact search, and graphs.
_USEARCH_QUERIES = 20

Figures = dict[str, float]
MakeRows = Callable[[int, np.random.Generator], Matrix]


def main() -> None:
    """Run the benchmark."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    add("--queries", type=int, default=500, help="default: %(default)s")
    add("--stream-rows", type=int, default=5_000_000, help="default: %(default)s")
    add("--photos", type=Path, metavar="DIR", help="photos, for one more gallery")
    add("--held-once", metavar="FOLDER", help="for this script: search a snapshot, print MB")
    add("--single-once", metavar="FOLDER", help="for this script: the same, several times")
    add("--stream-once", metavar="FOLDER", help="for this script: the same, not held in memory")
    arguments = parser.parse_args()
    common.use_one_thread()
    if folder := arguments.stream_once or arguments.held_once or arguments.single_once:
        gallery = Gallery(folder, stream=bool(arguments.stream_once))
        for query in _stream_rows(3 if arguments.single_once else 1):
            gallery.search(query)
        print(common.peak_mb())
        return
    table: dict[str, Figures] = {}
    sizes = sorted(arguments.rows)
    cases: list[tuple[str, MakeRows, int]] = [("realistic", realistic, size) for size in sizes]
    cases.append(("noise", white_noise, sizes[-1]))
    if arguments.photos:
        cases.append(("photos", PhotoRows.of(common.photos(arguments.photos)), sizes[-1]))
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
    made = {**_made(output, "index", "nearest"), **_made(output, "threshold", "threshold")}
    write_index(open_snapshot(output))
    held_mb, single_mb = (
        common.number_from(__file__, option, output) for option in ("--held-once", "--single-once")
    )
    gallery, indexed, flat = Gallery(output), Gallery(output, index=True), _flat(rows)
    gallery.search(queries[0], K)
    eight_bits_s = _seconds(time.perf_counter, lambda: gallery.search(queries[0], K))
    few = queries[:_PEER_QUERIES]
    ways: dict[str, tuple[int, Callable[[], Any]]] = {
        "exact": (len(queries), lambda: gallery.search(queries, K)),
        "index": (len(queries), lambda: indexed.search(queries, K)),
        "FAISS flat": (len(few), lambda: flat.search(few, K)),
        "product": (len(queries), lambda: _products(queries, rows)),
        "above": (len(queries), lambda: gallery.search(queries, None, THRESHOLD)),
        "index above": (len(queries), lambda: indexed.search(queries, None, THRESHOLD)),
        "FAISS range": (len(few), lambda: flat.range_search(few, THRESHOLD)),
        **_peers(rows, queries),
    }
    seconds = _in_turn({name: run for name, (_, run) in ways.items()}, time.process_time)
    speeds = {name: count / seconds[name] for name, (count, _) in ways.items()}
    figures = {
        **speeds,
        "exact_ratio": speeds["exact"] / speeds["FAISS flat"],
        "product_ratio": speeds["exact"] / speeds["product"],
        "one_query_ms": _one_query_ms(gallery, queries),
        "one_by_FAISS_ms": _one_query_ms(flat, queries[:, np.newaxis]),
        "eight_bits_ms": 1000 * eight_bits_s,
        "index_ratio": speeds["index"] / speeds["exact"],
        "index_recall": _recall(indexed, gallery, queries, K, None),
        "one_by_index_ms": _one_query_ms(indexed, queries),
        **made,
        "open_ratio": opening["open"] / opening["load"],
        "held_mb": held_mb,
        "single_mb": single_mb,
        "threshold_ratio": speeds["index above"] / speeds["above"],
        "threshold_recall": _recall(indexed, gallery, queries, None, THRESHOLD),
    }
    if "HNSW" in ways:
        nearest = flat.search(queries, K)[1]
        figures["HNSW recall"] = _overlap(ways["HNSW"][1]()[1], nearest)
        if "usearch HNSW" in ways:
            figures["usearch HNSW recall"] = _overlap(ways["usearch HNSW"][1]().keys, nearest)
    return figures


def _made(output: Path, name: str, use: Use) -> Figures:
    """Make an index; return how long it took, and the size of its file."""
    wall, cpu = time.perf_counter(), time.process_time()
    place, _ = write_index(open_snapshot(output), use=use)
    return {
        f"{name}_s": time.perf_counter() - wall,
        f"{name}_cpu_s": time.process_time() - cpu,
        f"{name}_mb": Path(place).stat().st_size / 1e6,
    }


def _peers(rows: Matrix, queries: Matrix) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return searches by graphs, and by usearch, with their numbers of queries."""
    peers: dict[str, tuple[int, Callable[[], Any]]] = {}
    few = queries[:_USEARCH_QUERIES]
    try:
        usearch = importlib.import_module("usearch.index")
    except ImportError:
        usearch = None
    if usearch:
        exact = partial(usearch.search, rows, few, K, "ip", exact=True, threads=1)
        peers["usearch exact"] = (len(few), exact)
    if len(rows) > _HNSW_ROWS:
        return peers
    graph = faiss.IndexHNSWFlat(DIMENSION, 16, faiss.METRIC_INNER_PRODUCT)
    graph.add(rows)
    graph.hnsw.efSearch = 256
    peers["HNSW"] = (len(queries), lambda: graph.search(queries, K))
    if usearch:
        index = usearch.Index(ndim=DIMENSION, metric="ip", dtype="f32", expansion_search=256)
        index.add(np.arange(len(rows)), rows, threads=1)
        peers["usearch HNSW"] = (len(queries), lambda: index.search(queries, K, threads=1))
    return peers


def _one_query_ms(searched: Any, queries: Matrix) -> float:
    """Return the median wall time of a query for the ten best rows."""
    some = [partial(searched.search, query, K) for query in queries[:20]]
    return 1000 * statistics.median(_seconds(time.perf_counter, search) for search in some)


def _recall(
    indexed: Gallery, exact: Gallery, queries: Matrix, k: int | None, threshold: float | None
) -> float:
    """Return the share of what exact search finds that is found by the index."""
    found, there = (g.search(queries, k, threshold).keys for g in (indexed, exact))
    return _overlap(found, there)


def _overlap(found: Iterable[Iterable[object]], there: Iterable[Iterable[object]]) -> float:
    pairs = [({*some}, {*best}) for some, best in zip(found, there, strict=True)]
    return sum(len(some & best) for some, best in pairs) / max(1, sum(len(b) for _, b in pairs))


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
    lines = [f"{'':<19}" + "".join(f"{case:>22}" for case in table)]
    for name in names:
        cells = (f"{figures[name]:,.3g}" if name in figures else "" for figures in table.values())
        lines.append(f"{name:<19}" + "".join(f"{cell:>22}" for cell in cells))
    if "stream_mb" in result:
        lines.append(f"{'stream_mb':<19}{result['stream_mb']:,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
