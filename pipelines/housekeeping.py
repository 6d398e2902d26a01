"""``featureid snapshots`` and ``prune``: what an output folder holds, and removing what is old."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from featureid.errors import UsageError
from featureid.storage.history import Entry, list_snapshots, prune
from pipelines import console

_DEAD_AFTER_HOURS = 72.0


def run_snapshots(argv: Sequence[str], prog: str) -> int:
    """List the snapshots of an output folder; returns the exit status."""
    parser = console.Parser(prog=prog, description="List the snapshots of an output folder.")
    arguments = _parse(parser, argv)
    entries = list_snapshots(arguments.output, _now(), _dead_after(arguments))
    described = [_describe(entry) for entry in entries]
    lines = [_line(entry) for entry in described] or ["no snapshot"]
    console.print_result({"snapshots": described}, arguments.json, "\n".join(lines))
    return console.DONE


def run_prune(argv: Sequence[str], prog: str) -> int:
    """Remove old snapshots and what dead runs have left; returns the exit status."""
    parser = console.Parser(
        prog=prog,
        description="Remove old snapshots and what dead runs have left. The current snapshot, "
        "runs in progress and what they carry rows from stay.",
    )
    parser.add_argument(
        "--keep", type=int, required=True, metavar="N", help="complete snapshots that stay"
    )
    arguments = _parse(parser, argv)
    removed = prune(arguments.output, arguments.keep, _now(), _dead_after(arguments))
    lines = [*(f"removed {snapshot}" for snapshot in removed), f"{len(removed)} removed"]
    console.print_result({"removed": removed}, arguments.json, "\n".join(lines))
    return console.DONE


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    parser.add_argument("output", metavar="DIR", help="output folder")
    parser.add_argument(
        "--dead-after",
        type=float,
        default=_DEAD_AFTER_HOURS,
        metavar="HOURS",
        help="a run of whose process nothing is known counts as dead so long after its start; "
        "default: %(default)s",
    )
    arguments = console.parse(parser, argv)
    if not arguments.dead_after >= 0:
        raise UsageError(f"--dead-after is {arguments.dead_after}; give 0 hours or more")
    return arguments


def _dead_after(arguments: argparse.Namespace) -> timedelta:
    return timedelta(hours=arguments.dead_after)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _describe(entry: Entry) -> dict[str, Any]:
    described: dict[str, Any] = {"snapshot": entry.snapshot, "state": _state(entry)}
    if entry.manifest:
        manifest = entry.manifest
        described |= {
            "rows": manifest.rows,
            "images": manifest.counts.images,
            "failed": manifest.counts.failed,
            "bytes": sum(manifest.file_sizes().values()),
            "model": manifest.info.model.name,
            "model_digest": manifest.info.model.digest,
        }
    if entry.report:
        described |= {"previous": entry.report.previous, "changes": entry.report.changes or {}}
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
            f"{described['bytes'] / 1e6:>10.2f} MB  {described['model']} "
            f"{described['model_digest'].removeprefix('sha256:')[:12]}"
        )
    if described.get("changes"):
        parts.append(", ".join(f"{n} {name}" for name, n in described["changes"].items() if n))
    return "  ".join(parts)
