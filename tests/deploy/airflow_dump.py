"""Write what Airflow reads from DAG files, as JSON; runs in Airflow's environment.

Like a scheduler, it imports modules from the folder of the file.

``python airflow_dump.py OUTPUT FILE...`` writes ``{FILE: {"errors": [...], "tasks": {...}}}``.
"""

import json
import os
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag


def outcome(task: Any, status: int) -> str:
    """Return how a Python task ends if the ``featureid`` on the path exits with ``status``."""
    try:
        return str(task.python_callable("verify", str(status)))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def dump(path: str) -> dict[str, Any]:
    """Return the tasks of the DAGs in a file, and the errors of importing it."""
    sys.path[0] = os.path.dirname(path)
    sys.modules.pop("featureid_common", None)
    bag = DagBag(path)
    tasks = {
        f"{dag.dag_id}.{task.task_id}": {
            "kind": type(task).__name__,
            "arguments": list(getattr(task, "op_args", ())),
            "ends": [outcome(task, status) for status in range(4)],
            "body": getattr(task, "body", {}),
            "place": [getattr(task, "project_id", ""), getattr(task, "location", "")],
            "waits": getattr(task, "wait_until_finished", None),
            "retries": task.retries,
            "retry_delay": str(task.retry_delay),
            "limit": str(task.execution_timeout),
            "alert": [str(getattr(call, "to", "")) for call in task.on_failure_callback or ()],
            "trigger": str(getattr(task.trigger_rule, "value", task.trigger_rule)),
            "next": sorted(task.downstream_task_ids),
            "schedule": str(dag.schedule),
            "catchup": dag.catchup,
            "max_active_runs": dag.max_active_runs,
            "tags": sorted(dag.tags),
        }
        for dag in bag.dags.values()
        for task in dag.tasks
    }
    return {"errors": list(bag.import_errors.values()), "tasks": tasks}


if __name__ == "__main__":
    output, *files = sys.argv[1:]
    with open(output, "w", encoding="utf-8") as stream:
        json.dump({path: dump(path) for path in files}, stream)
