"""Check the DAGs as Airflow itself reads them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.cloud.dataflow_v1beta3 import LaunchFlexTemplateParameter

from featureid import __version__
from tests import command_lines
from tests.deploy.cron_check import schedule_problems
from tests.deploy.dataflow_check import EXAMPLES
from tests.deploy.kubernetes_check import flink_option_problems

PYTHON = "_PythonDecoratedOperator"
TEMPLATE = "DataflowStartFlexTemplateOperator"
# DAG file -> task -> kind. The DAGs are called like the file, and that with "fresh" like it, too.
KINDS = {
    name: {
        f"{name}.embed": TEMPLATE if name == "featureid_dataflow" else PYTHON,
        f"{name}.prune": PYTHON,
        f"{name}_fresh.fresh": PYTHON,
    }
    for name in ("featureid_dataflow", "featureid_flink", "featureid_local")
}
# How a Python task ends if featureid exits with status 0, 1, 2 and 3.
ENDS = [
    "None",
    "AirflowException: featureid verify failed with status 1",
    "AirflowFailException: featureid verify failed with status 2",
    "AirflowFailException: featureid verify failed with status 3",
]
COMMON = {
    "retries": 3,
    "retry_delay": "0:10:00",
    "limit": "8:00:00",
    "alert": ["operations@example.com"],
    "trigger": "all_success",
    "catchup": False,
    "max_active_runs": 1,
    "tags": ["featureid"],
}
WORKER_IMAGE = (
    f"europe-west1-docker.pkg.dev/example-project/images/featureid-dataflow:{__version__}"
)


def read_dags(files: Sequence[Path], home: Path) -> dict[Path, dict[str, Any]]:
    """Return file to what Airflow reads from it."""
    python = os.environ["AIRFLOW_PYTHON"]
    dump = Path(__file__).with_name("airflow_dump.py")
    output = home / "dags.json"
    home.mkdir()
    fake = home / "featureid"
    fake.write_text('#!/bin/sh\nexit "$2"\n', encoding="utf-8")
    fake.chmod(0o755)
    done = subprocess.run(
        [python, str(dump), str(output), *map(str, files)],
        env={**os.environ, "AIRFLOW_HOME": str(home), "PATH": f"{home}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return {Path(path): dag for path, dag in json.loads(output.read_bytes()).items()}


def dag_problems(name: str, dag: dict[str, Any], root: Path) -> Iterator[str]:
    """Yield the problems of a file of DAGs, given what Airflow read from it."""
    yield from dag["errors"]
    tasks = dag["tasks"]
    if set(tasks) != set(KINDS[name]):
        yield f"the tasks are {sorted(tasks)}"
        return
    for task_name, kind in KINDS[name].items():
        yield from _task_problems(task_name, tasks[task_name], kind)
    embed = tasks[f"{name}.embed"]
    if name == "featureid_dataflow":
        yield from template_problems(embed)
    elif name == "featureid_flink":
        yield from flink_option_problems(embed["arguments"], root)
    elif any(word.startswith("--runner") for word in embed["arguments"]):
        yield f"not a local run: {embed['arguments']}"


def _task_problems(name: str, task: dict[str, Any], kind: str) -> Iterator[str]:
    last = name.rpartition(".")[2]
    expected = {
        **COMMON,
        "kind": kind,
        "schedule": "0 9 * * *" if last == "fresh" else "30 1 * * *",
        "next": ["prune"] if last == "embed" else [],
    }
    yield from (f"{name}: {key} is {task[key]}" for key in expected if task[key] != expected[key])
    yield from schedule_problems(task["schedule"])
    if kind == PYTHON:
        words = task["arguments"]
        if words[0] != {"fresh": "inspect"}.get(last, last):
            yield f"{name} runs {words}"
        if last == "fresh" and not {"--max-age=26h", "--max-failure-rate=0.05"} <= set(words):
            yield f"{name} does not check both: {words}"
        wrong = command_lines.is_wrong(words)
        if wrong:
            yield f"{name}: {wrong}"
        if task["ends"] != ENDS:
            yield f"{name} ends with {task['ends']}"


def template_problems(task: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of the task that starts the Flex Template."""
    if set(task["body"]) != {"launchParameter"}:
        yield f"the body has {sorted(task['body'])}"
        return
    text = json.dumps(task["body"]["launchParameter"])
    launch = LaunchFlexTemplateParameter.from_json(text, ignore_unknown_fields=False)
    unknown = set(launch.parameters) - set(EXAMPLES)
    if "max-failure-rate" in launch.parameters:
        yield "a job that fails for it is tried again, which only repeats"
    if unknown or not {"input", "output"} <= set(launch.parameters):
        yield f"parameters: {sorted(launch.parameters)}"
    wrong = command_lines.is_wrong(
        ["embed", *(f"--{name}={value}" for name, value in launch.parameters.items())]
    )
    if wrong:
        yield wrong
    if launch.environment.sdk_container_image != WORKER_IMAGE:
        yield f"the image is {launch.environment.sdk_container_image}"
    if not task["waits"] or task["place"] != ["example-project", "europe-west1"]:
        yield f"{task['waits']}, {task['place']}"
    places = [launch.environment.staging_location, launch.environment.temp_location]
    for place in (*places, launch.container_spec_gcs_path, *launch.parameters.values()):
        if not place.startswith("gs://example-photos/"):
            yield f"{place} is not in the same bucket as the others"
    if launch.job_name != "featureid-{{ ds_nodash }}-{{ ti.try_number }}":
        yield f"a second attempt would have the same name: {launch.job_name}"
