"""``featureid inspect``: what a snapshot holds, and whether it is recent enough."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from featureid.cli import console, metrics_file
from featureid.cli.metrics_file import Report
from featureid.durations import duration_text, parse_time
from featureid.errors import CorruptFileError, StorageError, UsageError
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.result_reader import Results, is_result, open_results
from featureid.storage.snapshot import checked_at
from featureid.write_plan import too_many_failures


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Show what a snapshot, or a result of matching, holds."
    )
    parser.add_argument(
        "snapshot", metavar="DIR", help="output folder, or the folder of one snapshot or result"
    )
    parser.add_argument("--failures", action="store_true", help="also list every failure")
    parser.add_argument("--keys", action="store_true", help="also list every image key")
    parser.add_argument(
        "--max-age",
        type=console.duration,
        metavar="AGE",
        help="exit with status 1 if no run has published the snapshot, or confirmed that it is up "
        "to date, within this time, for example 26h; units: s, m, h, d",
    )
    parser.add_argument(
        "--max-failure-rate",
        type=float,
        metavar="R",
        help="exit with status 3 if a larger share of the images failed, or none was embedded",
    )
    metrics_file.add_argument(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Show what a snapshot holds; return the exit status."""
    with metrics_file.reporting("inspect", argv, prog) as report:
        report.status = _run(argv, prog, report)
    return report.status


def _run(argv: Sequence[str], prog: str, report: Report) -> int:
    arguments = console.parse(make_parser(prog), argv)
    report.output = arguments.snapshot
    rate = arguments.max_failure_rate
    if rate is not None and not 0 <= rate <= 1:
        raise UsageError(f"--max-failure-rate is {rate}; give 0 to 1")
    if is_result(arguments.snapshot):
        return _inspect_result(arguments)
    snapshot = open_snapshot(arguments.snapshot)
    described = describe(snapshot)
    described["checked"] = checked_at(arguments.snapshot, described["snapshot"])
    if arguments.failures:
        described["failures"] = [asdict(failure) for failure in snapshot.failures()]
    if arguments.keys:
        described["image_keys"] = list(snapshot)
    console.print_result(described, arguments.json, _lines(described))
    if arguments.max_age is not None:
        last = described["checked"] or described["created"]
        check_age(described["folder"], last, arguments.max_age, datetime.now(UTC))
    reason = rate is not None and too_many_failures(snapshot.manifest.counts, rate)
    if reason:
        console.complain(f"{reason}; see featureid inspect {described['folder']} --failures")
        return console.TOO_MANY_FAILURES
    return console.DONE


def _inspect_result(arguments: argparse.Namespace) -> int:
    """Show what a result of matching holds; return the exit status."""
    for name in ("failures", "keys", "max_failure_rate", "metrics"):
        if getattr(arguments, name):
            raise UsageError(f"{arguments.snapshot} holds a result of matching: leave out `{name}`")
    described = describe_result(open_results(arguments.snapshot))
    console.print_result(described, arguments.json, _result_lines(described))
    if arguments.max_age is not None:
        now = datetime.now(UTC)
        check_age(described["folder"], described["created"], arguments.max_age, now)
    return console.DONE


def describe_result(results: Results) -> dict[str, Any]:
    """Return what a result holds, ready for JSON."""
    manifest = results.manifest
    return {
        "result": manifest.info.result,
        "folder": results.folder,
        "kind": results.kind,
        "created": manifest.info.created,
        "writer": manifest.info.writer,
        "model": asdict(manifest.info.model),
        "sources": {role: asdict(source) for role, source in manifest.info.sources.items()},
        "options": manifest.info.options,
        "rows": manifest.rows,
        "bytes": sum(summary.bytes for summary in manifest.files),
        **manifest.counts,
    }


def _result_lines(described: dict[str, Any]) -> list[str]:
    sources = [
        f"{role:<14}{source['folder']}, {source['rows']} rows"
        + (f", new since {source['since']}" if source["since"] else "")
        for role, source in described["sources"].items()
    ]
    given = {name: value for name, value in described["options"].items() if value is not None}
    options = ", ".join(f"{name} {value}" for name, value in given.items())
    known = {"result", "folder", "kind", "created", "writer", "model", "sources", "options"}
    counts = {name: n for name, n in described.items() if name not in {*known, "rows", "bytes"}}
    return [
        f"result        {described['folder']}",
        f"created       {described['created']} by {described['writer']}",
        f"model         {described['model']['name']}",
        f"model digest  {described['model']['digest']}",
        *sources,
        f"options       {options}",
        f"rows          {described['rows']} {described['kind']}, {described['bytes'] / 1e6:.2f} MB",
        *(f"  {number:8d}  {name.replace('_', ' ')}" for name, number in counts.items()),
    ]


def check_age(folder: str, last: str, max_age: timedelta, now: datetime) -> None:
    """Refuse a snapshot that was last up to date longer ago than ``max_age``.

    Args:
        folder: the snapshot's.
        last: start time of the run that made it, or of the last one that found no changes.
        max_age: how long ago that may be.
        now: the time, aware of its zone.

    Raises:
        CorruptFileError: ``last`` is not a time.
        StorageError: it is longer ago, or in the future.
    """
    try:
        then = parse_time(last)
    except ValueError as error:
        raise CorruptFileError(
            f"{folder} records {last!r} as the time when it was up to date, which is not a time"
        ) from error
    age = now - then
    if age < timedelta(0):
        raise StorageError(
            f"{folder} was up to date at {last}, which is {duration_text(-age)} in the future by "
            "the clock of this machine; check that clock, and that of the machine that started the "
            "run"
        )
    if age > max_age:
        raise StorageError(
            f"{folder} is {duration_text(age)} old, more than the allowed "
            f"{duration_text(max_age)}; find out why no later run has published or checked it"
        )


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a snapshot holds, ready for JSON."""
    manifest = snapshot.manifest
    return {
        "snapshot": manifest.info.snapshot,
        "folder": snapshot.folder,
        "created": manifest.info.created,
        "writer": manifest.info.writer,
        "model": asdict(manifest.info.model),
        "locations": asdict(manifest.info.locations),
        "rows": manifest.rows,
        "bytes": sum(shard.bytes for shard in manifest.embeddings),
        "shards": [asdict(shard) for shard in manifest.embeddings],
        **asdict(manifest.counts),
    }


def _lines(described: dict[str, Any]) -> list[str]:
    model, root = described["model"], described["locations"]["root"]
    lines = [
        f"snapshot      {described['folder']}",
        f"created       {described['created']} by {described['writer']}",
        *([f"checked       {described['checked']}: no changes"] if described["checked"] else []),
        f"model         {model['name']}, {model['dimension']} x {model['dtype']}",
        f"model digest  {model['digest']}",
        f"preprocessing {model['preprocessing_digest']}",
        *([f"faces         {model['faces']}"] if model["faces"] else []),
        *([f"hash          {model['hash']}"] if model["hash"] else []),
        *([f"root          {root}"] if root else []),
        f"rows          {described['rows']} in {len(described['shards'])} shards, "
        f"{described['bytes'] / 1e6:.2f} MB",
        f"images        {described['images']}: {described['embedded']} embedded, "
        f"{described['failed']} failed",
        *(
            [f"{described['kept']:>10}  could not be read and keep their rows"]
            * bool(described["kept"])
        ),
        *(f"  {count:8d}  {reason}" for reason, count in described["failures_by_reason"].items()),
    ]
    for failure in described.get("failures", ()):
        lines.append(
            f"failed: {failure['key']}: {failure['reason']} ({failure['stage']}): "
            f"{failure['message']}"
        )
    lines += described.get("image_keys", ())
    return lines
