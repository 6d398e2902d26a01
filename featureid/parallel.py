"""Work spread over the cores of one process."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items handed to the pool for every thread: one at work, one waiting.
_AHEAD = 2


def available_cpus() -> int:
    """CPU cores this process may use, by its affinity and its container's quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # No cgroup v2 here, or no quota ("max").
        return cores


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = 0
) -> Generator[tuple[_Item, _Result], None, None]:
    """Yield each item with what ``function`` makes of it, in the order of the items.

    Results are made ahead by threads, but no more than two a thread are held, so that memory stays
    bounded.  An exception of the function comes out where its result would have.

    Args:
        function: called on a thread of the pool, or here if there is only one.
        items: taken one by one on the calling thread, and only as they are needed.
        threads: how many to use; 0 means one a CPU core.
    """
    threads = threads or available_cpus()
    if threads == 1:
        for item in items:
            yield item, function(item)
        return
    running: deque[tuple[_Item, Future[_Result]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="featureid")
    try:
        for item in items:
            running.append((item, pool.submit(function, item)))
            if len(running) > _AHEAD * threads:
                first, result = running.popleft()
                yield first, result.result()
        while running:
            first, result = running.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
