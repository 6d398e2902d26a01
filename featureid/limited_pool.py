"""Threads for work of which a part may take too long, and is then given up."""

from __future__ import annotations

import atexit
import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")
_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


class Deadline:
    """The limit of time for parts of a task, one after the other.

    Attributes:
        seconds: how long each may take.
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
        self._set_due(time.monotonic() + self.seconds)
        try:
            yield
        finally:
            self._set_due(None)

    def _set_due(self, due: float | None) -> None:
        with self._lock:
            self._due = due
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

    def expire(self) -> bool:
        """Give no more time; return whether a block is now left behind."""
        with self._lock:
            self._missed = True
            return self._due is not None


class _LeftBehindError(BaseException):
    """Nobody waits any more for what this thread does."""


class LimitedPool:
    """Threads that do tasks of several items; one that takes too long over an item is left behind.

    Nothing can stop a thread inside of a library, and an exception thrown into one may leave a lock
    locked for good. Left behind, it ends when its work does, and is no hindrance to the end of the
    process; another thread goes on with the next item.

    A thread does all of a task itself, and one more watches the time of all of them. Were what is
    limited handed to other threads, cores would be idle whenever the two change places.

    Args:
        threads: how many tasks are done at the same time.
        seconds: how long the parts of a task may take that are limited.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        self._threads = threads
        self._seconds = seconds
        self._tasks: _Tasks = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        watched = (self._workers, seconds, self._is_over)
        self._watch = threading.Thread(target=_watch, args=watched, name="watch", daemon=True)
        # The threads of a pool that nobody closes end with the last reference to it.
        weakref.finalize(self, _let_end, self._tasks, threads, self._is_over).atexit = False
        _POOLS.add(self)

    def submit(
        self,
        items: Sequence[_Item],
        each: Callable[[_Item, Deadline], _Part],
        too_long: Callable[[_Item, Deadline], _Part],
        finish: Callable[[Sequence[_Item], list[_Part]], _Result],
    ) -> Future[_Result]:
        """Begin a task.

        Args:
            items: done one after the other.
            each: takes an item, and the deadline that it arms where it may take too long.
            too_long: takes an item over which a thread was left behind, in place of ``each``.
            finish: takes the items and what became of each, and returns the result.

        Returns:
            The result, or the first exception.

        Raises:
            RuntimeError: the pool is closed.
        """
        task = _Task(items, each, too_long, finish, Deadline(self._seconds))
        with self._lock:
            if self._is_over.is_set():
                raise RuntimeError("the pool is closed; open another one for more tasks")
            if not self._workers:
                self._start()
            self._tasks.put(task)
        return task.future

    def close(self) -> None:
        """End the threads without what is still to do.

        They are waited for, except in what is limited, which is left behind. The result of a task
        that is not done is a ``CancelledError``.
        """
        with self._lock:
            if self._is_over.is_set():
                return
            self._is_over.set()
            with contextlib.suppress(queue.Empty):
                while task := self._tasks.get_nowait():
                    task.drop()
            for _ in self._workers:
                self._tasks.put(None)
            if self._workers:
                self._watch.join()

    def _start(self) -> None:
        for _ in range(self._threads):
            self._workers.append(_Worker(self._tasks, self._is_over))
        self._watch.start()


_POOLS: weakref.WeakSet[LimitedPool] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End all threads before the interpreter does: one that comes back to it later may crash it."""
    for pool in list(_POOLS):
        pool.close()


def _let_end(tasks: _Tasks, threads: int, is_over: threading.Event) -> None:
    for _ in range(threads):
        tasks.put(None)
    is_over.set()


def _watch(workers: list[_Worker], seconds: float, is_over: threading.Event) -> None:
    """Replace each worker that takes too long, and end them all when the pool is over."""
    while not is_over.wait(min([seconds, *(worker.left() for worker in workers)])):
        workers[:] = [worker.or_successor() for worker in workers]
    for worker in workers:
        worker.end()


@dataclass(eq=False)
class _Task(Generic[_Item, _Part, _Result]):
    """Some items, what became of those that are done, and the limit of time for the others."""

    _items: Sequence[_Item]
    _each: Callable[[_Item, Deadline], _Part]
    _too_long: Callable[[_Item, Deadline], _Part]
    _finish: Callable[[Sequence[_Item], list[_Part]], _Result]
    deadline: Deadline
    future: Future[_Result] = field(default_factory=Future)
    _parts: list[_Part] = field(default_factory=list)
    _missed: Deadline | None = None

    def give_up(self) -> None:
        """Take note that the present item took too long."""
        self._missed, self.deadline = self.deadline, Deadline(self.deadline.seconds)

    def go_on(self) -> None:
        """Do what is left to do."""
        try:
            if self._missed:
                item = self._items[len(self._parts)]
                self._parts.append(self._too_long(item, self._missed))
            for item in self._items[len(self._parts) :]:
                self._parts.append(self._each(item, self.deadline))
            result = self._finish(self._items, self._parts)
        except _LeftBehindError:
            raise
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def drop(self) -> None:
        """Do no more of it, unless it is done."""
        if not self.future.cancel() and not self.future.done():
            self.future.set_exception(CancelledError())


_Tasks = queue.SimpleQueue[_Task[Any, Any, Any] | None]


class _Worker:
    """A thread of a pool, and the task that it is at."""

    def __init__(
        self,
        tasks: _Tasks,
        is_over: threading.Event,
        task: _Task[Any, Any, Any] | None = None,
    ) -> None:
        self._tasks, self._is_over, self._task = tasks, is_over, task
        self._thread = threading.Thread(target=self._work, name="embed", daemon=True)
        self._thread.start()

    def left(self) -> float:
        """Return for how many seconds it cannot be too late."""
        task = self._task
        return math.inf if task is None else task.deadline.left()

    def or_successor(self) -> _Worker:
        """Return itself or, if it is too late, one that goes on in its place."""
        task = self._task
        if task is None or not task.deadline.is_missed():
            return self
        task.give_up()
        self._task = None
        return _Worker(self._tasks, self._is_over, task)

    def end(self) -> None:
        """Wait for it or, in what is limited, leave it behind; drop its task, if it is not done."""
        task = self._task
        if task is None or not task.deadline.expire():
            self._thread.join()
        if task is not None:
            task.drop()

    def _work(self) -> None:
        with contextlib.suppress(_LeftBehindError):
            while task := self._task or self._take():
                task.go_on()
                del task  # and with it the results, which may be large
                self._task = None

    def _take(self) -> _Task[Any, Any, Any] | None:
        """Wait for a task; return None if there will be none."""
        while task := self._tasks.get():
            self._task = task  # before it asks, so that either this or `end` drops it
            if self._is_over.is_set():
                task.drop()
                return None
            if task.future.set_running_or_notify_cancel():
                return task
        return None
