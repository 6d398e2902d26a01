"""Matching two snapshots on Beam, in the local runner, compared with a search in memory.

    python benchmarks/match.py [--rows N] [--queries N] [-k K] [--rounds N] [--json]

``featureid match`` searches a gallery of realistic rows, 2 % of which are views of others, for each
row of a second snapshot, half of which are views of rows of the gallery.  The other way is
``featureid.Gallery(…).search`` in a Python program.  Both are processes of their own with one
thread, read the same files, and take turns; figures are medians of the rounds.  Start-up, reading
and writing count.

``match_ratio`` is the CPU time of ``featureid match`` relative to the search in memory, and
``identical`` says whether both found the same keys and scores, to the bit.  ``beam_s`` and
``memory_s`` are seconds of CPU time, ``beam_mb`` and ``memory_mb`` peak memory.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
from matching_rows import Matrix, realistic, views
from vector_formats import SHARDS, spread, write_snapshot

from featureid import Gallery, open_results, open_snapshot


def main() -> None:
    """Run the benchmark."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="default: %(default)s")
    add("--queries", type=int, default=4_000, help="default: %(default)s")
    add("-k", type=int, default=10, help="default: %(default)s")
    add("--rounds", type=int, default=3, help="default: %(default)s")
    add("--in-memory", nargs=2, metavar="FOLDER", help="for this script: search, print a digest")
    arguments = parser.parse_args()
    common.use_one_thread()
    if arguments.in_memory:
        gallery, query = arguments.in_memory
        print(json.dumps({"digest": _in_memory(gallery, query, arguments.k)}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        # Elsewhere: on Linux, the peak memory of a child starts at that of its parent.
        maker = multiprocessing.Process(
            target=_write, args=(Path(scratch), arguments.rows, arguments.queries)
        )
        maker.start()
        maker.join()
        result = _measure(Path(scratch), arguments.k, arguments.rounds)
    common.print_result(result, arguments.json)


def _write(scratch: Path, rows: int, queries: int) -> None:
    """Write the two snapshots."""
    gallery = realistic(rows, np.random.default_rng(1))
    random = np.random.default_rng(2)
    near = gallery[1::50]
    gallery[::50][: len(near)] = views(near, random.uniform(0.7, 1, len(near)), random)
    searched = realistic(queries, random)
    half = queries // 2
    chosen = gallery[random.integers(rows, size=half)]
    searched[:half] = views(chosen, random.uniform(0.8, 1, half), random)
    _publish(scratch / "gallery", gallery)
    _publish(scratch / "query", searched)


def _publish(place: Path, rows: Matrix) -> None:
    keys = [f"{place.name}/{number:09}.jpg" for number in range(len(rows))]
    place.mkdir()
    write_snapshot(place, spread(keys, rows, SHARDS))


def _measure(scratch: Path, k: int, num_rounds: int) -> dict[str, float]:
    gallery, query = scratch / "gallery", scratch / "query"
    rounds, digests = [], set()
    for number in range(num_rounds):
        output = scratch / f"found_{number}"
        ours = common.run_featureid("match", gallery, "--query", query, "-k", k, "--output", output)
        program = (sys.executable, __file__)
        peer = common.run_featureid("--in-memory", gallery, query, "-k", k, program=program)
        digests |= {_digest_of_result(output), peer.summary["digest"]}
        rounds.append(
            {
                "beam_s": ours.cpu_s,
                "memory_s": peer.cpu_s,
                "match_ratio": ours.cpu_s / peer.cpu_s,
                "beam_mb": ours.peak_mb,
                "memory_mb": peer.peak_mb,
            }
        )
    return {**common.medians(rounds), "identical": len(digests) == 1}


def _in_memory(gallery: str, query: str, k: int) -> str:
    snapshot = open_snapshot(query)
    keys, scores = Gallery(gallery).search(snapshot.vectors(), k)
    digest = hashlib.sha256()
    for name, found, values in zip(snapshot.row_keys(), keys, scores, strict=True):
        for key, score in zip(found, values.tolist(), strict=True):
            digest.update(f"{name} {key} {score!r}\n".encode())
    return digest.hexdigest()


def _digest_of_result(output: Path) -> str:
    digest = hashlib.sha256()
    for row in open_results(output):
        digest.update(f"{row['query']} {row['key']} {row['score']!r}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
