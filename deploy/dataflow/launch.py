"""What the Flex Template runs: submit the pipeline with the template's parameters, and end."""

import sys

from featureid.cli.main import main

ALWAYS = (
    # The service starts the job when this program has ended.
    "--no-wait",
    # A process of featureid uses all cores and has one model; one a core would be too many.
    "--experiments=no_use_multiple_sdk_containers",
    # The image has Beam, so that nothing need be staged.
    "--sdk_location=container",
)

if __name__ == "__main__":
    sys.exit(main(["embed", *sys.argv[1:], *ALWAYS]))
