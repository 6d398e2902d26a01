"""``featureid inspect`` and ``verify``: what a snapshot holds, and whether it is whole."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Any

from featureid.errors import CorruptFileError, StorageError
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.snapshot import checked_at
from featureid.storage.verify import verify_snapshot
from pipelines import console

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def run_inspect(argv: Sequence[str], prog: str) -> int:
    """Show what a snapshot holds; returns the exit status."""
    parser = console.Parser(prog=prog, description="Show what a snapshot holds.")
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    parser.add_argument("--failures", action="store_true", help="list every failure, too")
    parser.add_argument("--keys", action="store_true", help="list every image key, too")
    parser.add_argument(
        "--max-age",
        type=parse_duration,
        metavar="AGE",
        help="exit with 1 if no run has made it or found nothing new since then, such as 26h; "
        "units: s, m, h, d",
    )
    arguments = console.parse(parser, argv)
    snapshot = open_snapshot(arguments.snapshot)
    described = describe(snapshot)
    described["checked"] = checked_at(arguments.snapshot, described["snapshot"])
    if arguments.failures:
        described["failures"] = [asdict(failure) for failure in snapshot.failures()]
    if arguments.keys:
        described["keys"] = snapshot.keys()
    console.print_result(described, arguments.json, _inspect_text(described))
    if arguments.max_age is not None:
        last = described["checked"] or described["created"]
        check_age(described["folder"], last, arguments.max_age, datetime.now(timezone.utc))
    return console.DONE


def parse_duration(text: str) -> timedelta:
    """A duration from its text: a number and a unit, ``90m``, ``26h`` or ``7d``.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no duration; give a number and a unit, such as 90m, 26h or 7d"
        )
    number, unit = found.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


def check_age(folder: str, last: str, max_age: timedelta, now: datetime) -> None:
    """Refuse a snapshot that was up to date longer ago than ``max_age``.

    Args:
        folder: the snapshot's.
        last: when the run started that made it, or the last one that found nothing new.
        max_age: how long ago that may be.
        now: the time, aware of its zone.

    Raises:
        CorruptFileError: ``last`` is no time.
        StorageError: it is longer ago.
    """
    try:
        then = datetime.strptime(last, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError as error:
        raise CorruptFileError(f"{folder} was up to date at {last!r}, no time") from error
    age = now - then
    if age > max_age:
        raise StorageError(
            f"{folder} is {_duration_text(age)} old, more than the allowed "
            f"{_duration_text(max_age)}; see why no later run has published or found nothing new"
        )


def _duration_text(duration: timedelta) -> str:
    hours, seconds = divmod(int(duration.total_seconds()), 3600)
    return f"{hours} h {seconds // 60} min"


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """What a snapshot holds, ready to be JSON."""
    manifest = snapshot.manifest
    return {
        "snapshot": manifest.info.snapshot,
        "folder": snapshot.folder,
        "created": manifest.info.created,
        "writer": manifest.info.writer,
        "model": asdict(manifest.info.model),
        "rows": manifest.rows,
        "bytes": sum(shard.bytes for shard in manifest.embeddings),
        "shards": [asdict(shard) for shard in manifest.embeddings],
        **asdict(manifest.counts),
    }


def _inspect_text(described: dict[str, Any]) -> str:
    model = described["model"]
    lines = [
        f"snapshot      {described['folder']}",
        f"created       {described['created']} by {described['writer']}",
        *([f"checked       {described['checked']}: nothing new"] if described["checked"] else []),
        f"model         {model['name']}, {model['dimension']} x {model['dtype']}",
        f"model digest  {model['digest']}",
        f"preprocessing {model['preprocessing_digest']}",
        *([f"faces         {model['faces']}"] if model["faces"] else []),
        f"rows          {described['rows']} in {len(described['shards'])} shards, "
        f"{described['bytes'] / 1e6:.2f} MB",
        f"images        {described['images']}: {described['embedded']} embedded, "
        f"{described['failed']} failed",
        *(f"  {count:8d}  {reason}" for reason, count in described["failures_by_reason"].items()),
    ]
    for failure in described.get("failures", ()):
        lines.append(
            f"failed: {failure['key']}: {failure['reason']} ({failure['stage']}): "
            f"{failure['message']}"
        )
    lines += described.get("keys", ())
    return "\n".join(lines)


def run_verify(argv: Sequence[str], prog: str) -> int:
    """Check every byte of a snapshot; returns the exit status."""
    parser = console.Parser(prog=prog, description="Check every byte of a snapshot.")
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    arguments = console.parse(parser, argv)
    with console.counting("rows checked") as count:
        report = verify_snapshot(arguments.snapshot, on_rows=count)
    lines = [problem.message for problem in report.problems]
    verdict = "clean" if report.ok else f"{len(lines)} problems"
    checked = f"{report.files} files, {report.rows} rows, {report.bytes} bytes"
    lines.append(f"{report.folder}: {checked}: {verdict}")
    console.print_result({**asdict(report), "ok": report.ok}, arguments.json, "\n".join(lines))
    return console.DONE if report.ok else console.FAILED
