"""``--metrics FILE``: how a command ended and what its output holds, as a file for Prometheus.

The file is for the textfile collector of Prometheus' node_exporter. Times are stated, not ages: an
age would be that at the time of writing for as long as the file lies there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from featureid.cli import console
from featureid.durations import parse_time
from featureid.errors import FeatureIdError, UsageError
from featureid.masking import bare_uri
from featureid.prometheus import Gauge, find_value, to_text
from featureid.storage import files
from featureid.storage.snapshot import checked_at, find_manifest

_SUFFIX = ".prom"
_LAST_SUCCESS = "featureid_run_last_success_timestamp_seconds"


@dataclass
class Report:
    """What is known of a command, more and more as it runs.

    Attributes:
        command: its name.
        output: the output folder, or a snapshot's; "" if it is not known.
        status: its exit status.
        images: outcome -> number of images, once it has ended.
    """

    command: str
    output: str = ""
    status: int = console.FAILED
    images: Mapping[str, int] = field(default_factory=dict)


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--metrics",
        metavar="FILE",
        help="write metrics of the run for Prometheus to this file, also if it fails; ends in "
        f"{_SUFFIX}",
    )


@contextlib.contextmanager
def reporting(command: str, argv: Sequence[str], prog: str) -> Iterator[Report]:
    """Write the file that ``--metrics`` names when the block has ended, also if it raises.

    The options are looked for here, before the command parses them, so that a command line that
    it refuses leads to a file as well.

    Args:
        command: the name of the command.
        argv: its command line.
        prog: how help texts call it.

    Raises:
        UsageError: no such file can be written.
        StorageError: it could not be written after all.
    """
    parser = console.Parser(prog=prog, add_help=False)
    parser.add_argument("--metrics")
    parser.add_argument("--output", default="")
    found, _ = parser.parse_known_args(list(argv))
    report = Report(command, found.output)
    if found.metrics is None:
        yield report
        return
    _check(found.metrics)
    started = time.time()
    try:
        yield report
    except (KeyboardInterrupt, Exception) as error:
        report.status = console.exit_status(error)
        try:
            _write(found.metrics, report, started)
        except FeatureIdError as second:
            console.complain(str(second))
        raise
    _write(found.metrics, report, started)


def _check(path: str) -> None:
    if not path.endswith(_SUFFIX):
        raise UsageError(
            f"--metrics is {path!r}; give a name that ends in {_SUFFIX}, as Prometheus' textfile "
            "collector reads no others"
        )
    folder = os.path.dirname(path) or os.curdir
    if files.is_remote(path) or not os.path.isdir(folder):
        raise UsageError(f"--metrics is {path!r}, but {folder!r} is not a folder on this machine")
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--metrics is {path!r}, which cannot be written: check its permissions")


def _write(path: str, report: Report, started: float) -> None:
    gauges = [*_run_gauges(path, report, started, time.time()), *_snapshot_gauges(report)]
    files.write_atomic(path, [to_text(gauges).encode()])


def _run_gauges(path: str, report: Report, started: float, ended: float) -> Iterator[Gauge]:
    labels = {"command": report.command}
    if report.output:
        labels["output"] = _output(report)
    success = ended if report.status == console.DONE else _last_success(path, labels)
    for name, text, value in (
        (
            "featureid_run_exit_status",
            "Exit status of the last run: 0 done, 1 failed, 2 wrong usage, 3 too many failures, "
            "130 interrupted.",
            report.status,
        ),
        (
            "featureid_run_start_timestamp_seconds",
            "When the last run started.",
            round(started, 3),
        ),
        (
            "featureid_run_duration_seconds",
            "How long the last run took.",
            round(ended - started, 3),
        ),
        (
            _LAST_SUCCESS,
            "When a run last ended with exit status 0.",
            None if success is None else round(success, 3),
        ),
    ):
        yield Gauge(name, text, () if value is None else ((labels, value),))
    yield Gauge(
        "featureid_run_images",
        "Images of the last run by what it did with them.",
        tuple(({**labels, "outcome": name}, number) for name, number in report.images.items()),
    )


def _output(report: Report) -> str:
    return bare_uri(files.absolute(report.output))


def _last_success(path: str, labels: Mapping[str, str]) -> float | None:
    """Return what the file says that is about to be replaced; None if it does not say it."""
    try:
        text = files.read_bytes(path).decode("utf-8", "replace")
    except FeatureIdError:
        return None
    return find_value(text, _LAST_SUCCESS, labels)


def _snapshot_gauges(report: Report) -> list[Gauge]:
    """Return what the current snapshot holds, whoever made it; nothing if it cannot be read."""
    if not report.output:
        return []
    try:
        _, manifest = find_manifest(report.output)
        info, counts = manifest.info, manifest.counts
        last = parse_time(checked_at(report.output, info.snapshot) or info.created).timestamp()
    except (FeatureIdError, ValueError):
        return []
    labels = {"command": report.command, "output": _output(report), "model": info.model.name}
    outcomes = {"embedded": counts.embedded, "failed": counts.failed}
    reasons = counts.failures_by_reason
    return [
        Gauge(
            "featureid_snapshot_timestamp_seconds",
            "Start of the run that made the current snapshot or, later, found no changes.",
            ((labels, last),),
        ),
        Gauge(
            "featureid_snapshot_images",
            "Images of the current snapshot, by whether they have rows.",
            tuple(({**labels, "outcome": name}, number) for name, number in outcomes.items()),
        ),
        Gauge(
            "featureid_snapshot_failures",
            "Failed images of the current snapshot by reason.",
            tuple(({**labels, "reason": name}, number) for name, number in reasons.items()),
        ),
        Gauge(
            "featureid_snapshot_rows",
            "Rows of the current snapshot: one per image, or one per face.",
            ((labels, manifest.rows),),
        ),
        Gauge(
            "featureid_snapshot_bytes",
            "Bytes of the shards of the current snapshot.",
            ((labels, sum(shard.bytes for shard in manifest.embeddings)),),
        ),
    ]
