"""The Flex Template's program: submit the pipeline with the template's parameters, and exit."""

import sys

from featureid.cli.main import main

ALWAYS = (
    # The service starts the job after this program has exited.
    "--no-wait",
    # One process of featureid uses all cores, so Beam must not start one per core.
    "--experiments=no_use_multiple_sdk_containers",
    # The image contains Beam, so nothing must be staged.
    "--sdk_location=container",
)

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:], *ALWAYS]))
