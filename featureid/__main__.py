"""``python -m featureid``: the same as the ``featureid`` command."""

import sys

from featureid.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
