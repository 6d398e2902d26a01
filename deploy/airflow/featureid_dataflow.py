"""Nightly run on Dataflow: start the Flex Template and wait for its job.

The Airflow worker needs ``featureid[gcp]`` for the other tasks; the job has an image of its own.
"""

from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from featureid_common import EVERY_MORNING, NIGHTLY, fresh, new_dag, prune

PROJECT = "example-project"
REGION = "europe-west1"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT}/images/featureid-dataflow:0.1.0"
OUTPUT = "gs://example-photos/ids"

with new_dag("featureid_dataflow", NIGHTLY):
    embed = DataflowStartFlexTemplateOperator(
        task_id="embed",
        project_id=PROJECT,
        location=REGION,
        wait_until_finished=True,
        body={
            "launchParameter": {
                "jobName": "featureid-{{ ds_nodash }}-{{ ti.try_number }}",
                "containerSpecGcsPath": "gs://example-photos/templates/featureid.json",
                # Not max-failure-rate: the job would fail, and only repeat. fresh() checks it.
                "parameters": {
                    "input": "gs://example-photos/originals",
                    "strip-prefix": "gs://example-photos/originals/",
                    "output": OUTPUT,
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
    embed >> prune(OUTPUT)

with new_dag("featureid_dataflow_fresh", EVERY_MORNING):
    fresh(OUTPUT)
