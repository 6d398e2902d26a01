"""Parallel work on the cores of one process."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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


class Deadline:
    """The limit of time for parts of what a :class:`LimitedThread` does with one item.

    Attributes:
        seconds: how long such a part may take.
        stage: what is being done, for messages.
    """

    def __init__(self, seconds: float) -> None:
        self.stage = ""
        self.seconds = seconds
        self._due: float | None = None
        self._missed = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Limit the time of a block, which may be left behind: it must hold nothing others need."""
        with self._lock:
            self._due = time.monotonic() + self.seconds
        try:
            yield
        finally:
            with self._lock:
                self._due = None
                if self._missed:
                    raise _LeftBehindError

    def left(self) -> float:
        """Return for how many seconds it cannot be missed."""
        due = self._due
        return self.seconds if due is None else max(0.0, due - time.monotonic())

    def is_missed(self) -> bool:
        """Return whether the time is over; the block is then left behind for good."""
        with self._lock:
            self._missed = self._due is not None and time.monotonic() >= self._due
            return self._missed


class _LeftBehindError(BaseException):
    """Nobody waits any more for what this thread does."""


class _Run(Generic[_Item, _Result]):
    """What a limited thread does with some items, and the results so far."""

    def __init__(
        self,
        function: Callable[[_Item, Deadline], _Result],
        items: Sequence[_Item],
        seconds: float,
    ) -> None:
        self._function, self._items, self._seconds = function, items, seconds
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self.deadline = Deadline(seconds)
        self.results: list[_Result] = []

    def work(self) -> None:
        """Do it, on the limited thread."""
        try:
            for item in self._items:
                self.deadline = Deadline(self._seconds)
                self.results.append(self._function(item, self.deadline))
        except _LeftBehindError:
            return
        except BaseException as error:
            self._error = error
        self._ended.set()

    def wait(self) -> bool:
        """Wait for it, and return whether it was done in time, on the thread that asked for it.

        Raises:
            BaseException: what the function has raised.
        """
        while not self._ended.wait(self.deadline.left()):
            if self.deadline.is_missed():
                return False
        if self._error is not None:
            raise self._error
        return True


class LimitedThread:
    """A thread that works for another one, and is left behind if it takes too long.

    Nothing can stop a thread inside of a library, and an exception thrown into one may leave a lock
    locked for good. Left behind, it ends when its work does, and is no hindrance to the end of the
    process.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def call_each(
        self,
        function: Callable[[_Item, Deadline], _Result],
        items: Sequence[_Item],
        seconds: float,
        too_long: Callable[[_Item, Deadline], _Result],
    ) -> list[_Result]:
        """Return what ``function`` returns for each item, or raise what it raises.

        Handing work to another thread and back costs more than many an image, so that all items are
        handed over at once.

        Args:
            function: takes an item, and the deadline that it arms where it may take too long.
            items: taken one after the other.
            seconds: how long what is armed may take.
            too_long: takes an item that took longer, on this thread, and returns its result.
        """
        results: list[_Result] = []
        while len(results) < len(items):
            run = _Run(function, items[len(results) :], seconds)
            self._start()
            self._tasks.put(run.work)
            in_time = run.wait()
            results += run.results
            if not in_time:
                self.close()
                results.append(too_long(items[len(results)], run.deadline))
        return results

    def _start(self) -> None:
        if self._thread is None:
            self._tasks = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=_work, args=(self._tasks,), name="limited", daemon=True
            )
            self._thread.start()
            # It also ends if nobody closes this.
            weakref.finalize(self, self._tasks.put, None)

    def close(self) -> None:
        """Let the thread end."""
        self._tasks.put(None)
        self._thread = None


def _work(tasks: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # and with it the results, which may be large


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
