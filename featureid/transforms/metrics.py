"""The metrics of a run: every name, and how steps report them.

Counters count images; distributions hold the times at which a stage was at work, in milliseconds
since 1970, so that their minimum and maximum over all workers tell when it began and ended.
"""

from __future__ import annotations

import time
from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

NAMESPACE = "featureid"

LISTED = "listed"
EMBEDDED = "embedded"
FAILED = "failed"
SAME_CONTENT = "same_content"

#: Stages, each a distribution called ``<stage>_at_ms``.
LIST = "list"
PLAN = "plan"
CHECK = "check"
FIRST_WORK = "begun"
MATCH = "match"
WRITE = "write"
PUBLISH = "publish"
_AT_MS = "_at_ms"


def count(name: str, number: int = 1) -> None:
    """Add to a counter, inside a running step."""
    Metrics.counter(NAMESPACE, name).inc(number)


def failed_for(reason: str) -> str:
    """Return the name of the counter of images that failed for a reason."""
    return f"{FAILED}_{reason}"


class Stage:
    """A stage of the run; records when work in its ``with`` block begins and ends."""

    def __init__(self, name: str) -> None:
        self._at_ms = Metrics.distribution(NAMESPACE, name + _AT_MS)

    def mark(self) -> None:
        """Record that the stage is at work now."""
        self._at_ms.update(time.time_ns() // 1_000_000)

    def __enter__(self) -> None:
        self.mark()

    def __exit__(self, *_: object) -> None:
        self.mark()


def query_counters(result: PipelineResult) -> dict[str, int]:
    """Return the counters of a finished run by name, summed over all workers."""
    return {entry.key.metric.name: entry.result for entry in _query(result)["counters"]}


def query_stages(result: PipelineResult) -> dict[str, tuple[float, float]]:
    """Return when each stage began and ended, in seconds since 1970, by name."""
    return {
        entry.key.metric.name.removesuffix(_AT_MS): (
            entry.result.min / 1000,
            entry.result.max / 1000,
        )
        for entry in _query(result)["distributions"]
        if entry.key.metric.name.endswith(_AT_MS) and entry.result.count
    }


def _query(result: PipelineResult) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    return found
