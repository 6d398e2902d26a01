"""Nightly run on Dataflow: start the Flex Template, wait for its job, prune, check freshness.

The Airflow worker needs ``featureid[gcp]`` for the last two; the job has an image of its own.
"""

from datetime import datetime, timedelta

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

PROJECT = "example-project"
REGION = "europe-west1"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT}/images/featureid-dataflow:0.1.0"
OUTPUT = "gs://example-photos/ids"

with DAG(
    "featureid_dataflow",
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
    embed = DataflowStartFlexTemplateOperator(
        task_id="embed",
        project_id=PROJECT,
        location=REGION,
        wait_until_finished=True,
        body={
            "launchParameter": {
                "jobName": "featureid-{{ ds_nodash }}-{{ ti.try_number }}",
                "containerSpecGcsPath": "gs://example-photos/templates/featureid.json",
                "parameters": {
                    "input": "gs://example-photos/originals",
                    "strip-prefix": "gs://example-photos/originals/",
                    "output": OUTPUT,
                    "previous": "auto",
                },
                "environment": {
                    "sdkContainerImage": IMAGE,
                    "machineType": "n2-standard-4",
                    "maxWorkers": 20,
                    "diskSizeGb": 50,
                    "stagingLocation": "gs://example-photos/dataflow/staging",
                    "tempLocation": "gs://example-photos/dataflow/temp",
                },
            }
        },
    )
    prune = BashOperator(task_id="prune", bash_command=f"featureid prune {OUTPUT} --keep 14")
    fresh = BashOperator(
        task_id="fresh",
        bash_command=f"featureid inspect {OUTPUT} --max-age 26h",
        trigger_rule="all_done",
    )
    embed >> [prune, fresh]
