"""``featureid inspect`` and ``verify``: what a snapshot holds, and whether it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.verify import verify_snapshot
from pipelines import console


def run_inspect(argv: Sequence[str], prog: str) -> int:
    """Show what a snapshot holds; returns the exit status."""
    parser = console.Parser(prog=prog, description="Show what a snapshot holds.")
    parser.add_argument("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    parser.add_argument("--failures", action="store_true", help="list every failure, too")
    parser.add_argument("--keys", action="store_true", help="list every image key, too")
    console.add_common_arguments(parser)
    arguments = parser.parse_args(argv)
    console.set_up_log(arguments.log_level)
    snapshot = open_snapshot(arguments.snapshot)
    described = describe(snapshot)
    if arguments.failures:
        described["failures"] = [asdict(failure) for failure in snapshot.failures()]
    if arguments.keys:
        described["keys"] = snapshot.keys()
    console.print_result(described, arguments.json, _inspect_text(described))
    return console.DONE


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
    console.add_common_arguments(parser)
    arguments = parser.parse_args(argv)
    console.set_up_log(arguments.log_level)
    with console.counting("rows checked") as count:
        report = verify_snapshot(arguments.snapshot, on_rows=count)
    lines = [problem.message for problem in report.problems]
    verdict = "clean" if report.ok else f"{len(lines)} problems"
    checked = f"{report.files} files, {report.rows} rows, {report.bytes} bytes"
    lines.append(f"{report.folder}: {checked}: {verdict}")
    console.print_result({**asdict(report), "ok": report.ok}, arguments.json, "\n".join(lines))
    return console.DONE if report.ok else console.FAILED
