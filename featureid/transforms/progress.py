"""Progress of a run in this process: for a terminal and for a log.

Beam's metrics reach the launcher only after the run; a terminal should show it move.
"""

from __future__ import annotations

import logging
import threading
import time
from weakref import WeakValueDictionary

_LOG = logging.getLogger(__name__)
_LOG_EVERY_S = 60.0

# Steps find the progress of their run here while somebody holds it: the launcher, if it runs in
# this process, or else the steps themselves.
_BY_RUN: WeakValueDictionary[str, Progress] = WeakValueDictionary()
_LOCK = threading.Lock()


class Progress:
    """Counts of one run in this process; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started = self._logged = time.monotonic()
        self.listed = self.embedded = self.failed = 0

    def add(self, *, listed: int = 0, embedded: int = 0, failed: int = 0) -> None:
        """Add to the counts; log the first image (at debug level), then a line every minute."""
        with self._lock:
            self.listed += listed
            self.embedded += embedded
            self.failed += failed
            now = time.monotonic()
            if self.embedded == embedded == 1:
                _LOG.debug("first image embedded")
            if now - self._logged >= _LOG_EVERY_S:
                self._logged = now
                _LOG.info(self._line(now))

    def line(self) -> str:
        """Return the state of the run as one short line."""
        with self._lock:
            return self._line(time.monotonic())

    def _line(self, now: float) -> str:
        done = self.embedded + self.failed
        rate = done / max(now - self._started, 1e-9)
        of_listed = f"/{self.listed}" if self.listed else ""
        return f"{done}{of_listed} images, {self.failed} failed, {rate:.0f} images/s"


def progress_of(run: str) -> Progress:
    """Return the progress of a run, the same object for all that ask in this process.

    Args:
        run: a name for the run that no other has, such as its snapshot id.
    """
    with _LOCK:
        return _BY_RUN.setdefault(run, Progress())
