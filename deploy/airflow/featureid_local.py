"""Nightly run on the Airflow worker itself, which needs ``featureid[aws]``."""

from featureid_common import EVERY_MORNING, NIGHTLY, featureid, fresh, new_dag, prune

PHOTOS = "s3://example-photos/originals"
OUTPUT = "s3://example-photos/ids"

with new_dag("featureid_local", NIGHTLY):
    embed = featureid.override(task_id="embed")(
        "embed",
        PHOTOS,
        f"--strip-prefix={PHOTOS}/",
        f"--output={OUTPUT}",
        "--max-failure-rate=0.05",
    )
    embed >> prune(OUTPUT)

with new_dag("featureid_local_fresh", EVERY_MORNING):
    fresh(OUTPUT)
