"""``featureid export``: a snapshot, or a result, in the formats of other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from featureid.cli import console
from featureid.errors import UsageError
from featureid.storage import export, files
from featureid.storage.reader import open_snapshot
from featureid.storage.result_reader import is_result, open_results

_FORMATS = tuple(dict.fromkeys([*export.EXPORTS, *export.RESULT_EXPORTS]))


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Write a snapshot, or a result of matching, in another format."
    )
    add = parser.add_argument
    add("snapshot", metavar="DIR", help="output folder, or the folder of one snapshot or result")
    results = " and ".join(export.RESULT_EXPORTS)
    add("--to", required=True, choices=_FORMATS, help=f"the format; for results: {results}")
    add("path", metavar="PATH", help="file to write; published: gzipped if it ends in .gz")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Write a snapshot or a result in another format; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if not arguments.path:
        raise UsageError("PATH is empty; give the file to write")
    if is_result(arguments.snapshot):
        result, written = _export_result(arguments.snapshot, arguments.to, arguments.path)
    else:
        result, written = _export_snapshot(arguments.snapshot, arguments.to, arguments.path)
    sizes = {path: files.size(path) for path in written}
    result["files"] = [{"file": path, "bytes": sizes[path]} for path in written]
    lines = [f"{result['rows']} rows", *(f"{path}: {sizes[path]} bytes" for path in written)]
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _export_snapshot(place: str, to: str, path: str) -> tuple[dict[str, Any], list[str]]:
    """Return what was exported, and into which files."""
    _check_format(place, to, tuple(export.EXPORTS))
    snapshot = open_snapshot(place)
    with console.counting("rows", snapshot.num_rows) as count:
        export.EXPORTS[to](snapshot, path, count)
    described = {
        "snapshot": snapshot.manifest.info.snapshot,
        "folder": snapshot.folder,
        "model": asdict(snapshot.model),
        "rows": snapshot.num_rows,
    }
    return described, [path, *([] if to == "parquet" else [export.keys_path(path)])]


def _export_result(place: str, to: str, path: str) -> tuple[dict[str, Any], list[str]]:
    """Return what was exported, and into which files."""
    _check_format(place, to, tuple(export.RESULT_EXPORTS))
    results = open_results(place)
    with console.counting("rows", len(results)) as count:
        export.RESULT_EXPORTS[to](results, path, count)
    info = results.manifest.info
    described = {
        "result": info.result,
        "folder": results.folder,
        "model": asdict(info.model),
        "rows": len(results),
    }
    return described, [path]


def _check_format(place: str, to: str, known: Sequence[str]) -> None:
    if to not in known:
        raise UsageError(f"{place} cannot be written as {to}; give {' or '.join(known)} as `to`")
