"""Nightly run on Flink.

The Airflow worker needs what the ``flink`` image has: featureid, Java and the job server.
"""

from featureid_common import EVERY_MORNING, NIGHTLY, featureid, fresh, new_dag, prune

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

with new_dag("featureid_flink", NIGHTLY):
    embed = featureid.override(task_id="embed")(
        "embed",
        PHOTOS,
        f"--strip-prefix={PHOTOS}/",
        f"--output={OUTPUT}",
        "--max-failure-rate=0.05",
        *FLINK,
    )
    embed >> prune(OUTPUT)

with new_dag("featureid_flink_fresh", EVERY_MORNING):
    fresh(OUTPUT)
