"""``featureid export``: a snapshot in the formats of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console
from featureid.errors import UsageError
from featureid.storage import export, files
from featureid.storage.reader import open_snapshot


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description="Write a snapshot in another format.")
    add = parser.add_argument
    add("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    add("--to", required=True, choices=tuple(export.EXPORTS), help="the format")
    add("path", metavar="PATH", help="file to write; published: gzipped if it ends in .gz")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Write a snapshot in another format; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if not arguments.path:
        raise UsageError("PATH is empty; give the file to write")
    snapshot = open_snapshot(arguments.snapshot)
    with console.counting("rows", snapshot.num_rows) as count:
        export.EXPORTS[arguments.to](snapshot, arguments.path, count)
    written = [arguments.path]
    if arguments.to != "parquet":
        written.append(export.keys_path(arguments.path))
    sizes = {path: files.size(path) for path in written}
    result = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "model": asdict(snapshot.model),
        "rows": snapshot.num_rows,
        "files": [{"file": path, "bytes": sizes[path]} for path in written],
    }
    lines = [f"{snapshot.num_rows} rows", *(f"{path}: {sizes[path]} bytes" for path in written)]
    console.print_result(result, arguments.json, lines)
    return console.DONE
