"""The record of a run: made as it starts, completed as it ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from featureid.errors import StorageError
from featureid.jobs.beam_options import is_local
from featureid.jobs.run_metrics import RunMetrics
from featureid.storage.process import this_process
from featureid.storage.reader import Snapshot
from featureid.storage.run_record import Info, RunRecord, read_run, versions_of, write_run

_LOG = logging.getLogger(__name__)
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert")
_PACKAGES = ("apache-beam", "numpy", *_RUNTIMES, "pillow", "simplejpeg", "isal")
#: The options of Beam that explain a run. Any other may hold a secret, or the address of one.
_EXPLAINING = """
runner direct_num_workers direct_running_mode update_compatibility_version job_name
parallelism max_parallelism flink_version flink_submit_uber_jar execution_mode_for_batch
max_bundle_size max_bundle_time_mills number_of_execution_retries execution_retry_delay
object_reuse faster_copy environment_type sdk_worker_parallelism spark_version
project region worker_region worker_zone num_workers max_num_workers autoscaling_algorithm
machine_type disk_size_gb disk_type min_cpu_platform flexrs_goal
number_of_worker_harness_threads sdk_container_image sdk_location
temp_location staging_location template_location save_main_session pickle_library
default_sdk_harness_log_level requirements_file setup_file resource_hints experiments
"""
BEAM_OPTIONS = frozenset(_EXPLAINING.split())


def new_record(
    info: Info,
    options: Any,
    beam_options: PipelineOptions,
    previous: Snapshot | None = None,
) -> RunRecord:
    """Return what is known of a run as it starts."""
    return RunRecord.begin(
        info,
        {**_plain(options), "beam": _explaining(beam_options)},
        versions_of(_PACKAGES),
        previous=previous.manifest.info.snapshot if previous is not None else "",
        process=this_process() if is_local(beam_options) else "",
    )


def complete_record(folder: str, metrics: RunMetrics) -> RunRecord | None:
    """Add timings and throughput to the record in a published snapshot, and return it.

    Returns:
        The record; None if the run has published nothing.
    """
    record = read_run(folder)
    if record is None:
        return None
    record = replace(
        record,
        timings=metrics.timings,
        metrics={"images_per_s": metrics.images_per_s, **metrics.counters},
    )
    try:
        write_run(folder, record)
    except StorageError as error:
        _LOG.warning("the snapshot is published, its run.json lacks the timings: %s", error)
    return record


def _explaining(options: PipelineOptions) -> dict[str, Any]:
    given = options.get_all_options(drop_default=True)
    return {name: _plain(value) for name, value in given.items() if name in BEAM_OPTIONS}


def _plain(value: Any) -> Any:
    """The value as JSON knows it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
