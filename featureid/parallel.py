"""Parallel work on the cores of one process."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items in the pool per thread: one at work, one waiting.
_AHEAD = 2


def available_cpus() -> int:
    """Return the CPU cores this process may use by its affinity and container quota, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # No cgroup v2 here, or no quota ("max").
        return cores


class OrderedFutures(Generic[_Item, _Result]):
    """Work that a pool does ahead, handed back in the order in which it was added.

    Args:
        limit: results that may be due at the same time; :meth:`add` waits beyond that, so that
            memory stays bounded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._due: deque[tuple[_Item, Future[_Result]]] = deque()

    def add(self, item: _Item, future: Future[_Result]) -> Iterator[tuple[_Item, _Result]]:
        """Take the future of an item; yield the first items with their results beyond the limit."""
        self._due.append((item, future))
        while len(self._due) > self._limit:
            yield self._next()

    def done(self) -> Iterator[tuple[_Item, _Result]]:
        """Yield the first items with their results as far as they are done, without waiting."""
        while self._due and self._due[0][1].done():
            yield self._next()

    def drain(self) -> Iterator[tuple[_Item, _Result]]:
        """Yield all items that are still due, waiting for their results."""
        while self._due:
            yield self._next()

    def _next(self) -> tuple[_Item, _Result]:
        item, future = self._due.popleft()
        return item, future.result()


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = 0
) -> Generator[tuple[_Item, _Result], None, None]:
    """Yield each item with what ``function`` makes of it, in the order of the items.

    Threads work ahead, but hold no more than two results each, so that memory stays bounded. An
    exception of the function is raised where its result would have been yielded.

    Args:
        function: called on a thread of the pool, or on this one if there is only one.
        items: taken one by one on the calling thread, and only as they are needed.
        threads: how many to use; 0 means one per CPU core.
    """
    threads = threads or available_cpus()
    if threads == 1:
        for item in items:
            yield item, function(item)
        return
    results: OrderedFutures[_Item, _Result] = OrderedFutures(_AHEAD * threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="featureid")
    try:
        for item in items:
            yield from results.add(item, pool.submit(function, item))
        yield from results.drain()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
