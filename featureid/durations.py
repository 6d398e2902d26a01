"""Durations and UTC times as people and files write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from featureid.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def parse_duration(text: str) -> timedelta:
    """Return the duration that a text such as ``90m``, ``26h`` or ``7d`` stands for.

    Raises:
        UsageError: it is not a number with a unit.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise UsageError(f"invalid duration {text!r}; expected for example 26h (s, m, h, d)")
    number, unit = found.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


def duration_text(duration: timedelta) -> str:
    """Return a duration for people: ``49 s``, ``12 min 3 s`` or ``26 h 5 min``."""
    minutes, seconds = divmod(round(duration.total_seconds()), 60)
    hours, rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def as_utc(time: datetime) -> datetime:
    """Return the same time in UTC.

    Raises:
        ValueError: it has no time zone.
    """
    if time.tzinfo is None:
        raise ValueError(f"the time {time} has no time zone; give datetime.now(UTC)")
    return time.astimezone(UTC)


def time_text(time: datetime) -> str:
    """Return a time, aware of its zone, as files state it: ``2026-11-23T05:42:31Z``."""
    return as_utc(time).strftime(_TIME)


def parse_time(text: str) -> datetime:
    """Return the time that :func:`time_text` wrote.

    Raises:
        ValueError: it is not such a time.
    """
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
