"""Group duplicates: ``python pipelines/duplicates.py --input=… --output=… --runner=…``.

The same as ``featureid group``, in the form in which Beam pipelines are usually submitted.
"""

import sys

from featureid.cli.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("group"))
