"""``featureid index``: make searches by threshold faster."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.cli import console
from featureid.matching.codes import radius_of
from featureid.matching.index_file import write_index
from featureid.storage import files
from featureid.storage.reader import open_snapshot

_THRESHOLDS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6)


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Make an index of a snapshot for featureid search --threshold T --index, and "
        "measure what it finds. It is one file beside the snapshot's folder, and can be deleted.",
    )
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Make an index; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    snapshot = open_snapshot(arguments.snapshot)
    path, codes = write_index(snapshot)
    recalls, lines = [], [f"{path}: {snapshot.num_rows} rows, {files.size(path)} bytes"]
    for threshold in _THRESHOLDS:
        recall = codes.recall(threshold)
        radius = radius_of(threshold, snapshot.model.dimension)
        share = round(recall.share, 4) if recall else None
        pairs = recall.pairs if recall else 0
        recalls.append({"threshold": threshold, "recall": share, "pairs": pairs})
        found = f"finds {recall.share:.2%} of {pairs} pairs" if recall else "too few pairs to tell"
        lines.append(f"threshold {threshold}: at most {radius} bits differ; {found}")
    result = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "file": path,
        "bytes": files.size(path),
        "rows": snapshot.num_rows,
        "recalls": recalls,
    }
    console.print_result(result, arguments.json, lines)
    return console.DONE
