"""How far long work in this process is: for a terminal, and as a line a minute in a log."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from featureid.durations import duration_text

_LOG = logging.getLogger(__name__)
_LOG_EVERY_S = 60.0


class Progress:
    """Counts work as it is done; thread-safe.

    Args:
        unit: of the counts, ``images``.
        total: units to do; 0 if that is not known yet.
    """

    def __init__(self, unit: str, total: int = 0) -> None:
        self._unit = unit
        self._lock = threading.Lock()
        self._logged = time.monotonic()
        self._began: float | None = None
        self._total, self._done, self._listed, self._failed = total, 0, 0, 0

    def add(self, done: int = 0, *, failed: int = 0, listed: int = 0, total: int = 0) -> None:
        """Add to the counts, and log them if that was a minute ago.

        Args:
            done: units done, those that failed included.
            failed: units that failed.
            listed: units found, of which it is not known yet whether there is work to do.
            total: units to do.
        """
        with self._lock:
            now = time.monotonic()
            if done and self._began is None:
                self._began = now
                _LOG.debug("the first of the %s is done", self._unit)
            self._done += done
            self._failed += failed
            self._listed += listed
            self._total += total
            if now - self._logged >= _LOG_EVERY_S:
                self._logged = now
                _LOG.info(", ".join(self._parts(now)))

    def parts(self) -> list[str]:
        """Return the state in words, the most important first, as ``45 %``, ``2 min 3 s left``."""
        with self._lock:
            return self._parts(time.monotonic())

    def _parts(self, now: float) -> list[str]:
        if not self._done and self._listed and not self._total:
            return [f"{self._listed} {self._unit} listed"]
        parts = []
        if self._total:
            parts.append(f"{100 * self._done // self._total} %")
        # The first unit is not counted: it includes the start.
        rate = (self._done - 1) / max(now - self._began, 1e-3) if self._began is not None else 0.0
        if rate and self._total > self._done:
            left = timedelta(seconds=(self._total - self._done) / rate)
            parts.append(f"{duration_text(left)} left")
        parts.append(f"{self._done}{f'/{self._total}' if self._total else ''} {self._unit}")
        if self._failed:
            parts.append(f"{self._failed} failed")
        return [*parts, *([f"{rate:.0f} {self._unit}/s"] if rate else [])]
