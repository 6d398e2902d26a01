"""How long near-duplicates take to find, and how many are found.

    python benchmarks/duplicates.py [--rows N] [--copies N] [--threshold T] [--skip-exact] [--json]

A collection of realistic rows has planted ones: 1 % are identical to others, 2 % are views of
others that score from the threshold to 1, ``--copies`` are views of a single row and score about
0.96 with it, and 300 form a chain in which each scores 0.93 with the next.  Each method runs in a
process of its own: ``exact`` compares all pairs, ``cells`` those of rows that cells connect.

``exact_s`` and ``cells_s`` are wall times of grouping on all cores, ``exact_cpu_s`` and
``cells_cpu_s`` CPU times; ``peak_mb`` is the higher peak of memory, ``vectors_mb`` what the vectors
take alone.  ``cells_recall`` is the share of the close pairs of about 2,000 rows, without the
copies of the single row, that cells have found.  It is checked that every member of a group scores
at least the threshold with its center; ``copies`` and ``chain`` say how many copies of the single
row, and how much of the chain, are in one group.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import common
import numpy as np
import numpy.typing as npt
from matching_rows import DIMENSION, Matrix, realistic, views

from featureid.matching.cells import parts_by_cells, recall_of
from featureid.matching.collection import Collection
from featureid.matching.duplicates import DuplicateOptions, Duplicates, find_duplicates
from featureid.matching.identical import identical_rows
from featureid.matching.near import Nearness

_IDENTICAL, _VIEWS = 0.01, 0.02
_CHAIN = 300
_CHAIN_SCORE, _COPY_SCORE = 0.93, 0.96
_PLAIN, _COPY, _LINK = range(3)
_METHODS = ("exact", "cells")

Numbers = npt.NDArray[np.intp]


def main() -> None:
    """Run the benchmark."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="default: %(default)s")
    add("--copies", type=int, default=5000, help="default: %(default)s")
    add("--threshold", type=float, default=0.9, help="default: %(default)s")
    add("--skip-exact", action="store_true", help="do not compare all pairs")
    add("--only", choices=_METHODS, help="for this script: run one method")
    arguments = parser.parse_args()
    if arguments.only:
        figures = run(arguments.rows, arguments.copies, arguments.threshold, arguments.only)
        print(json.dumps(figures))
        return
    result: dict[str, float] = {}
    for method in _METHODS[arguments.skip_exact :]:
        command = [sys.executable, *sys.argv, "--only", method]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        result["peak_mb"] = max(result.get("peak_mb", 0), found.pop("peak_mb"))
        result |= {f"{method}_{name}": value for name, value in found.items()}
    result["vectors_mb"] = arguments.rows * DIMENSION * 4 / 1e6
    common.print_result(result, arguments.json)


def run(rows: int, copies: int, threshold: float, method: Any) -> dict[str, float]:
    """Return the figures of one method."""
    vectors, kinds = planted(rows, copies, threshold)
    collection = collection_of(vectors)
    started, cpu = time.perf_counter(), time.process_time()
    found = find_duplicates(collection, DuplicateOptions(threshold, method=method))
    figures = {
        "s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": common.peak_mb(),
        "groups": len(found.groups),
        **_checked(found, kinds, threshold),
    }
    if method == "cells":
        others = vectors[(kinds != _COPY) & (identical_rows(vectors) == np.arange(len(vectors)))]
        near = Nearness.of(others, threshold)
        parts = parts_by_cells(near, np.ones(len(others), np.intp))
        recall = recall_of(near, parts, len(others))
        figures["recall"] = recall.found / recall.pairs if recall.pairs else 1.0
    return figures


def planted(rows: int, copies: int, threshold: float) -> tuple[Matrix, Numbers]:
    """Return float32 (rows, 128) in random order, and what each row is, (rows,)."""
    random = np.random.default_rng(1)
    identical, near = int(_IDENTICAL * rows), int(_VIEWS * rows)
    plain = realistic(rows - identical - near - copies - _CHAIN, random)
    chain = [realistic(1, random)]
    while len(chain) < _CHAIN:
        chain.append(views(chain[-1], np.array([_CHAIN_SCORE]), random))
    parts = [
        plain,
        plain[random.integers(len(plain), size=identical)],
        views(
            plain[random.integers(len(plain), size=near)],
            random.uniform(threshold, 1, near),
            random,
        ),
        views(np.repeat(plain[:1], copies, axis=0), np.full(copies, _COPY_SCORE), random),
        *chain,
    ]
    kinds = np.full(rows, _PLAIN)
    kinds[-_CHAIN - copies :] = _COPY
    kinds[-_CHAIN:] = _LINK
    order = random.permutation(rows)
    return np.concatenate(parts)[order], kinds[order]


def collection_of(vectors: Matrix) -> Collection:
    """Return a collection of images that differ in nothing but their vectors."""
    none = np.zeros(len(vectors), np.int64)
    keys = [f"{number:09}.jpg" for number in range(len(vectors))]
    faces = [None] * len(vectors)
    return Collection(keys, faces, vectors, None, none, none, none, none.astype(np.int8))


def _checked(found: Duplicates, kinds: Numbers, threshold: float) -> dict[str, float]:
    """Return the most copies of the single row, and the most links of the chain, in one group.

    Raises:
        RuntimeError: a member is too far from the center of its group.
    """
    most: dict[str, float] = {"copies": 0, "chain": 0}
    for group in found.groups:
        members = [member.row for member in group.members]
        if min(member.score for member in group.members) < np.float32(threshold):
            raise RuntimeError(f"a member of the group of {group.keep} is too far from its center")
        most["copies"] = max(most["copies"], int((kinds[members] == _COPY).sum()))
        most["chain"] = max(most["chain"], int((kinds[members] == _LINK).sum()))
    return most


if __name__ == "__main__":
    main()
