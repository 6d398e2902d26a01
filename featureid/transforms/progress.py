"""The progress of a run, shared by its steps and its launcher if they are in one process.

Beam's metrics reach the launcher only after the run; a terminal should show it move.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from featureid.progress import Progress

# Steps find the progress of their run here while somebody holds it: the launcher, if it runs in
# this process, or else the steps themselves.
_BY_RUN: WeakValueDictionary[str, Progress] = WeakValueDictionary()
_LOCK = threading.Lock()


def progress_of(run: str, unit: str = "images") -> Progress:
    """Return the progress of a run, the same object for all that ask in this process.

    Args:
        run: a name for the run that no other has, such as its snapshot id.
        unit: what the run counts, if it is the first to ask.
    """
    with _LOCK:
        return _BY_RUN.setdefault(run, Progress(unit))
