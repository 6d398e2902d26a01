"""``run.json``: made as a run starts, completed as it ends."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib import metadata
from typing import Any

from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from featureid.errors import FeatureIdError, StorageError
from featureid.jobs.beam_options import is_local
from featureid.parallel import available_cpus
from featureid.refresh import Changes
from featureid.storage import files
from featureid.storage.carry import PreviousSnapshot
from featureid.storage.records import SnapshotInfo
from featureid.storage.run_record import RunReport, read_run, this_process, write_run
from featureid.storage.snapshot import MANIFEST, prepare_snapshot
from featureid.transforms import WritePlan

_LOG = logging.getLogger(__name__)
_PACKAGES = ("apache-beam", "numpy", "ai-edge-litert", "pillow", "simplejpeg", "isal")
_SUFFIX = "_at_ms"
_CHANGES = tuple(Changes().to_dict())


@dataclass(frozen=True)
class Span:
    """When something began and ended, in seconds since 1970."""

    begin: float
    end: float


@dataclass(frozen=True)
class RunMetrics:
    """Beam's metrics of a run.

    Attributes:
        counters: counter by name.
        spans: stage by name: when its first work began and its last ended, over all workers.
    """

    counters: Mapping[str, int]
    spans: Mapping[str, Span]

    @property
    def changes(self) -> dict[str, int]:
        """What had changed in the inputs."""
        changes = Changes(**{name: self.counters.get(name, 0) for name in _CHANGES})
        return changes.compared(self.counters.get("same_content", 0)).to_dict()

    @property
    def images_per_s(self) -> float:
        """Images embedded or failed a second, from the first one's start to the last one's end."""
        if "embedded" not in self.spans:
            return 0.0
        done = self.counters.get("embedded", 0) + self.counters.get("failed", 0)
        seconds = self.spans["embedded"].end - self.spans["begun"].begin
        return round(done / max(seconds, 1e-3), 2)


def run_metrics(result: PipelineResult) -> RunMetrics:
    """Collect the metrics of a finished run; several workers' are put together by the runner."""
    found = result.metrics().query(MetricsFilter().with_namespace("featureid"))
    return RunMetrics(
        {entry.key.metric.name: entry.result for entry in found["counters"]},
        {
            entry.key.metric.name.removesuffix(_SUFFIX): Span(
                entry.result.min / 1000, entry.result.max / 1000
            )
            for entry in found["distributions"]
            if entry.key.metric.name.endswith(_SUFFIX) and entry.result.count
        },
    )


def new_report(
    info: SnapshotInfo,
    options: Any,
    beam_options: PipelineOptions,
    previous: PreviousSnapshot | None,
) -> RunReport:
    """What is known of a run as it starts."""
    return RunReport(
        snapshot=info.snapshot,
        started=info.created,
        writer=info.writer,
        options={
            **_plain(options),
            "beam": _plain(beam_options.get_all_options(drop_default=True)),
        },
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
            "machine": f"{platform.system()} {platform.machine()}, {available_cpus()} cores",
        },
        previous=previous.manifest.info.snapshot if previous else "",
        process=this_process() if is_local(beam_options) else "",
    )


@contextlib.contextmanager
def marked_run(plan: WritePlan, *, local: bool) -> Iterator[None]:
    """Mark the new snapshot's folder as being worked on, and clear it away if the run fails.

    Where the work is done elsewhere it may go on though we have lost sight of it: then the folder
    stays.

    Raises:
        StorageError: the folder cannot be written, or the previous snapshot was removed meanwhile.
    """
    folder = prepare_snapshot(plan.output, plan.info.snapshot)
    try:
        write_run(folder, plan.report)
        # In this order: whoever prunes takes the manifest away first and then looks for marks.
        if plan.previous and not files.exists(files.join(plan.previous.folder, MANIFEST)):
            raise StorageError(
                f"{plan.previous.folder} was removed just as this run started; run it again"
            )
        yield
    except BaseException:
        if local:
            with contextlib.suppress(FeatureIdError):
                if not files.exists(files.join(folder, MANIFEST)):
                    files.remove_folder(folder)
        raise


def complete_report(folder: str, metrics: RunMetrics) -> RunReport | None:
    """Add timings and throughput to the report in a published snapshot, and return it.

    Returns:
        The report; None if the run has published nothing.
    """
    report = read_run(folder)
    if report is None:
        return None
    spans = metrics.spans
    timings = {name: span.end - span.begin for name, span in spans.items()}
    if "embedded" in spans:
        timings["embed"] = spans["embedded"].end - spans["begun"].begin
    report = replace(
        report,
        timings={
            name: round(seconds, 3)
            for name, seconds in timings.items()
            if name not in ("begun", "embedded")
        },
        metrics={"images_per_s": metrics.images_per_s, **metrics.counters},
    )
    try:
        write_run(folder, report)
    except StorageError as error:
        _LOG.warning("the snapshot is published, its report lacks the timings: %s", error)
    return report


def _plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
