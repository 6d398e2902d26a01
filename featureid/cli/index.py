"""``featureid index``: make searches faster, and measure what they find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from featureid.cli import console
from featureid.errors import UsageError
from featureid.matching.index import DEFAULT_RECALL, Index
from featureid.matching.index_file import write_index
from featureid.storage import files
from featureid.storage.reader import open_snapshot

_THRESHOLDS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6)


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Make an index of a snapshot for featureid search --index, and measure what it "
        "finds. It is one file beside the snapshot's folder, and can be deleted.",
    )
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    parser.add_argument(
        "--recall",
        type=float,
        default=DEFAULT_RECALL,
        metavar="R",
        help="the share of the matches that searches are to find; where the index finds less, they "
        "stay exact; default: %(default)s",
    )
    parser.add_argument(
        "--only",
        choices=("nearest", "threshold"),
        help="make only what searches for the nearest rows use, or those by a threshold; default: "
        "both",
    )
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Make an index; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if not 0 < arguments.recall < 1:
        raise UsageError(
            f"`recall` is {arguments.recall}; give more than 0 and less than 1; without an index, "
            "search finds all"
        )
    snapshot = open_snapshot(arguments.snapshot)
    path, index = write_index(snapshot, arguments.recall, arguments.only or "both")
    size = files.size(path)
    recalls, neighbors = [*_recalls(index)], [*_neighbors(index)]
    result = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "file": path,
        "bytes": size,
        "rows": snapshot.num_rows,
        "recalls": recalls,
        "neighbors": neighbors,
    }
    lines = [f"{path}: {snapshot.num_rows} rows, {size} bytes"]
    lines += [_line(f"threshold {found['threshold']}", found) for found in recalls]
    lines += [_line(f"{found['k']} nearest", found) for found in neighbors]
    if index.is_for(None) and not neighbors:
        lines.append("nearest: few rows; searches without a threshold stay exact")
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _recalls(index: Index) -> Iterator[dict[str, Any]]:
    for threshold in filter(index.is_for, _THRESHOLDS):
        recall = index.recall(None, threshold)
        yield {
            "threshold": threshold,
            "recall": round(recall.share, 4) if recall else None,
            "pairs": recall.pairs if recall else 0,
            "used": index.serves(None, threshold),
        }


def _neighbors(index: Index) -> Iterator[dict[str, Any]]:
    for probing in index.lists.probings:
        yield {
            "k": probing.k,
            "recall": round(probing.recall.share, 4),
            "pairs": probing.pairs,
            "used": index.serves(probing.k, None),
            "share": probing.share,
        }


def _line(what: str, found: dict[str, Any]) -> str:
    if found["recall"] is None:
        return f"{what}: too few pairs to tell; search stays exact"
    among = f" among {found['share']:.1%} of the rows" if "share" in found else ""
    exact = "" if found["used"] else "; search stays exact"
    return f"{what}: finds {found['recall']:.2%} of {found['pairs']} pairs{among}{exact}"
