"""``run.json``: made as a run starts, completed as it ends."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass, replace
from importlib import metadata
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from featureid.errors import FeatureIdError, StorageError
from featureid.jobs.beam_options import is_local
from featureid.jobs.run_metrics import RunMetrics
from featureid.parallel import available_cpus
from featureid.storage import files
from featureid.storage.reader import Snapshot
from featureid.storage.records import SnapshotInfo
from featureid.storage.run_record import RunReport, read_run, this_process, write_run
from featureid.storage.snapshot import MANIFEST, prepare_snapshot
from featureid.transforms import WritePlan

_LOG = logging.getLogger(__name__)
_PACKAGES = ("apache-beam", "numpy", "ai-edge-litert", "pillow", "simplejpeg", "isal")


def new_report(
    info: SnapshotInfo,
    options: Any,
    beam_options: PipelineOptions,
    previous: Snapshot | None,
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
        previous=previous.manifest.info.snapshot if previous is not None else "",
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
        if plan.previous is not None and not files.exists(
            files.join(plan.previous.folder, MANIFEST)
        ):
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
    report = replace(
        report,
        timings=metrics.timings,
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
