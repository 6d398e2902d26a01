"""Nightly run on Flink: embed new images, delete old snapshots, check that the newest is fresh.

The Airflow worker needs what the ``flink`` image has: featureid, Java and the job server.
"""

import subprocess
from datetime import datetime, timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PHOTOS = "s3://example-photos/originals"
OUTPUT = "s3://example-photos/ids"
FLINK = (
    "--runner=FlinkRunner",
    "--flink_master=featureid-rest:8081",
    "--flink_version=1.20",
    "--flink_job_server_jar=/opt/beam/flink-job-server.jar",
    "--environment_type=EXTERNAL",
    "--environment_config=localhost:50000",
    "--parallelism=2",
)
FINAL = (2, 3)  # wrong usage; more failures than allowed


@task
def featureid(*arguments: str) -> None:
    """Run a command of featureid; its exit status decides whether Airflow tries again."""
    status = subprocess.run(["featureid", *arguments], check=False).returncode
    message = f"featureid {arguments[0]} failed with status {status}"
    if status in FINAL:
        raise AirflowFailException(message)
    if status:
        raise AirflowException(message)


with DAG(
    "featureid_flink",
    schedule="30 1 * * *",
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
):
    embed = featureid.override(task_id="embed")(
        "embed",
        PHOTOS,
        f"--strip-prefix={PHOTOS}/",
        f"--output={OUTPUT}",
        "--previous=auto",
        "--max-failure-rate=0.05",
        *FLINK,
    )
    prune = featureid.override(task_id="prune")("prune", OUTPUT, "--keep=14")
    fresh = featureid.override(task_id="fresh", trigger_rule="all_done")(
        "inspect", OUTPUT, "--max-age=26h"
    )
    embed >> [prune, fresh]
