"""``featureid snapshots``: list the snapshots of an output folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from featureid.cli import console
from featureid.storage.history import Entry, list_snapshots

#: How long after its start a run counts as dead if its process cannot be checked.
DEAD_AFTER = "72h"


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description="List the snapshots of an output folder.")
    add_output_arguments(parser)
    return parser


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the output folder, and when a run in it counts as dead."""
    parser.add_argument("output", metavar="DIR", help="output folder")
    parser.add_argument(
        "--dead-after",
        type=console.duration,
        default=DEAD_AFTER,
        metavar="AGE",
        help="treat a run as dead this long after its start if its process cannot be checked; "
        "default: %(default)s",
    )


def run(argv: Sequence[str], prog: str) -> int:
    """List the snapshots of an output folder; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    now = datetime.now(UTC)
    entries = list_snapshots(arguments.output, now, arguments.dead_after)
    described = [_describe(entry) for entry in entries]
    lines = [_line(entry) for entry in described] or ["no snapshots"]
    console.print_result({"snapshots": described}, arguments.json, lines)
    return console.DONE


def _describe(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {
        "snapshot": entry.snapshot,
        "folder": entry.folder,
        "state": _state(entry),
    }
    if entry.sequence:
        described["sequence"] = entry.sequence
    if entry.manifest:
        manifest = entry.manifest
        described |= {
            "rows": manifest.rows,
            "images": manifest.counts.images,
            "failed": manifest.counts.failed,
            "bytes": sum(manifest.file_sizes().values()),
            "model": asdict(manifest.info.model),
        }
    if entry.record:
        described |= {"previous": entry.record.previous, "changes": entry.record.changes or {}}
    return described


def _state(entry: Entry) -> str:
    if entry.complete:
        damaged = entry.manifest is None
        return "damaged" if damaged else "current" if entry.current else "complete"
    return "dead" if entry.dead else "running"


def _line(described: dict[str, Any]) -> str:
    parts = [f"{described['snapshot']}  {described['state']:<8}"]
    if "rows" in described:
        parts.append(
            f"{described['rows']:>10} rows {described['failed']:>7} failed "
            f"{described['bytes'] / 1e6:>10.2f} MB  {described['model']['name']} "
            f"{described['model']['digest'].removeprefix('sha256:')[:12]}"
        )
    if described.get("changes"):
        parts.append(", ".join(f"{n} {name}" for name, n in described["changes"].items() if n))
    return "  ".join(parts)
