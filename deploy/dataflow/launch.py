"""The Flex Template's program: submit the pipeline with the template's parameters, and exit."""

import sys
from collections.abc import Iterable, Iterator

from featureid.cli.main import main

# Parameters always have a value; those of these options are true or false.
FLAGS = {"allow-empty-folders", "new-model", "no-previous", "re-embed", "retry-failed"}
ALWAYS = (
    # The service starts the job after this program has exited.
    "--no-wait",
    # One process of featureid uses all cores, so Beam must not start one per core.
    "--experiments=no_use_multiple_sdk_containers",
    # The image contains Beam, so nothing must be staged.
    "--sdk_location=container",
)


def options(parameters: Iterable[str]) -> Iterator[str]:
    """Yield the options of ``featureid embed`` for parameters of the form ``--name=value``."""
    for parameter in parameters:
        name, _, value = parameter.removeprefix("--").partition("=")
        if name == "embed-hint":
            yield from (f"--{name}={hint}" for hint in value.split())
        elif name not in FLAGS:
            yield parameter
        elif value != "false":
            yield f"--{name}"


if __name__ == "__main__":
    sys.exit(main(["embed", *options(sys.argv[1:]), *ALWAYS]))
