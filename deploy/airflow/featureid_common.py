"""What the DAGs of featureid share: when they run, who is told of a failure, and their tasks."""

import subprocess
from datetime import datetime, timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

NIGHTLY = "30 1 * * *"
# A DAG of its own, so that it also notices if the other hangs or was paused.
EVERY_MORNING = "0 9 * * *"
FINAL = (2, 3)  # wrong usage; more failures than allowed


def new_dag(name: str, schedule: str) -> DAG:
    """Return a DAG that never overlaps itself, and mails when a task has failed for good."""
    return DAG(
        name,
        schedule=schedule,
        start_date=datetime(2026, 1, 1),
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 3,
            "retry_delay": timedelta(minutes=10),
            "execution_timeout": timedelta(hours=8),
            "on_failure_callback": [SmtpNotifier(to="operations@example.com")],
        },
        tags=["featureid"],
    )


@task
def featureid(*arguments: str) -> None:
    """Run a command of featureid; its exit status decides whether Airflow tries again."""
    status = subprocess.run(["featureid", *arguments], check=False).returncode
    message = f"featureid {arguments[0]} failed with status {status}"
    if status in FINAL:
        raise AirflowFailException(message)
    if status:
        raise AirflowException(message)


def prune(output: str) -> object:
    """Return a task that deletes old snapshots."""
    return featureid.override(task_id="prune")("prune", output, "--keep=14")


def fresh(output: str) -> object:
    """Return a task that fails if the snapshot is too old, or too many of its images failed."""
    return featureid.override(task_id="fresh")(
        "inspect", output, "--max-age=26h", "--max-failure-rate=0.05"
    )
