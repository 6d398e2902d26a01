"""How far the embedding in this process is: for a progress line and for a log.

Beam's metrics reach the launcher only when a run is over; a terminal wants to see it move.
"""

from __future__ import annotations

import logging
import threading
import time

from apache_beam.metrics import Metrics

_LOG = logging.getLogger(__name__)
_LOG_EVERY_S = 60.0


class Progress:
    """Counts of this process, safe to be read and changed by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start to count anew, for a new run in the same process."""
        with self._lock:
            self.listed = self.embedded = self.failed = 0
            self._started = self._logged = time.monotonic()

    def add(self, *, listed: int = 0, embedded: int = 0, failed: int = 0) -> None:
        """Count; log the first image (at debug level), and where things stand once a minute."""
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
        """Where things stand, in one short line."""
        with self._lock:
            return self._line(time.monotonic())

    def _line(self, now: float) -> str:
        done = self.embedded + self.failed
        rate = done / max(now - self._started, 1e-9)
        of_listed = f"/{self.listed}" if self.listed else ""
        return f"{done}{of_listed} images, {self.failed} failed, {rate:.0f} images/s"


PROGRESS = Progress()


class Stage:
    """A block of work that belongs to a stage of the run: when, as a metric of Beam.

    The smallest and largest of ``<name>_at_ms``, milliseconds since 1970, tell when the stage
    began and ended, on any runner and over all its workers.
    """

    def __init__(self, name: str) -> None:
        self._at_ms = Metrics.distribution("featureid", f"{name}_at_ms")

    def __enter__(self) -> None:
        self._at_ms.update(now_ms())

    def __exit__(self, *_: object) -> None:
        self._at_ms.update(now_ms())


def now_ms() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
