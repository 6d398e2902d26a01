"""A pool does every item once, in order, and goes on without those that take too long."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest

from featureid.limited_pool import Deadline, LimitedPool

# Long enough for whatever a loaded machine does meanwhile.
LONG = 60


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What stuck work waits for; set at the end of a test, whatever its result."""
    event = threading.Event()
    yield event
    event.set()


def _never(item: object, deadline: Deadline) -> Any:
    raise AssertionError(item)


def _parts(items: Sequence[Any], parts: list[Any]) -> list[Any]:
    assert len(items) == len(parts)
    return parts


@pytest.mark.parametrize("threads", [1, 3])
def test_tasks_are_done_item_by_item_each_on_one_thread(threads: int) -> None:
    def identify(item: int, deadline: Deadline) -> tuple[int, int]:
        with deadline.armed():
            return item, threading.get_ident()

    pool = LimitedPool(threads, LONG)
    tasks = [range(n, n + 3) for n in range(50)]
    futures = [pool.submit(task, identify, _never, _parts) for task in tasks]
    found = [future.result() for future in futures]
    assert [[item for item, _ in parts] for parts in found] == [[*task] for task in tasks]
    assert all(len({name for _, name in parts}) == 1 for parts in found)
    names = {name for parts in found for _, name in parts}
    assert 1 <= len(names) <= threads and threading.get_ident() not in names
    assert pool.submit([], identify, _never, _parts).result() == []
    pool.close()


@pytest.mark.parametrize("error", [ValueError, TimeoutError, KeyboardInterrupt])
def test_errors_are_those_of_the_task_and_the_next_one_is_done(error: type[BaseException]) -> None:
    def fail(item: int, deadline: Deadline) -> int:
        with deadline.armed():
            if item == 2:
                raise error("its own")
        return item

    def fail_to_finish(items: Sequence[int], parts: list[int]) -> None:
        raise error("at the end")

    pool = LimitedPool(1, LONG)
    with pytest.raises(error, match="its own"):
        pool.submit([1, 2, 3], fail, _never, _parts).result()
    with pytest.raises(error, match="at the end"):
        pool.submit([1], fail, _never, fail_to_finish).result()
    assert pool.submit([1, 3], fail, _never, _parts).result() == [1, 3]
    pool.close()


def test_what_takes_too_long_is_left_behind_and_the_rest_is_done(release: threading.Event) -> None:
    left: list[threading.Thread] = []
    done: list[str] = []

    def wait_in_a_library(item: str, deadline: Deadline) -> str:
        deadline.stage = f"wait for {item}"
        with deadline.armed():
            if item == "slow":
                left.append(threading.current_thread())
                release.wait()
        done.append(item)
        return item

    def too_long(item: str, deadline: Deadline) -> str:
        return f"{deadline.stage}: over {deadline.seconds} s"

    pool = LimitedPool(1, 0.1)
    items = ["one", "slow", "two", "slow", "slow"]
    first = pool.submit(items, wait_in_a_library, too_long, _parts)
    second = pool.submit(["three"], wait_in_a_library, too_long, _parts)
    over = "wait for slow: over 0.1 s"
    assert first.result() == ["one", over, "two", over, over]
    assert second.result() == ["three"]
    pool.close()  # although there are threads that have been left behind
    release.set()
    for thread in left:
        thread.join(LONG)
        assert not thread.is_alive()
    assert len(left) == 3 and done == ["one", "two", "three"]


def test_what_is_not_limited_may_take_longer_than_the_limit() -> None:
    pause = threading.Event()

    def take_long(item: int, deadline: Deadline) -> int:
        with deadline.armed():
            pass
        pause.wait(0.2)
        return item

    pool = LimitedPool(1, 0.05)
    assert pool.submit([1, 2], take_long, _never, _parts).result() == [1, 2]
    pool.close()


def test_closing_waits_for_what_is_at_work_and_drops_the_rest(release: threading.Event) -> None:
    begun, never = threading.Event(), threading.Event()
    done: list[int] = []

    def wait(item: int, deadline: Deadline) -> int:
        with deadline.armed():
            if item == 2:  # whether it is begun or not
                never.wait()
        begun.set()
        release.wait()
        done.append(item)
        return item

    pool = LimitedPool(1, LONG)
    at_work = pool.submit([1, 2], wait, _never, _parts)
    queued = pool.submit([3], wait, _never, _parts)
    begun.wait()
    closing = threading.Thread(target=pool.close)
    closing.start()
    with pytest.raises(CancelledError):
        queued.result(LONG)
    assert closing.is_alive() and not at_work.done()
    release.set()
    closing.join(LONG)
    with pytest.raises(CancelledError):
        at_work.result(0)
    assert done == [1]
    never.set()
    pool.close()  # once more does nothing
    with pytest.raises(RuntimeError, match="the pool is closed"):
        pool.submit([3], wait, _never, _parts)


def test_closing_lets_the_last_item_of_a_task_be_done(release: threading.Event) -> None:
    begun = threading.Event()

    def wait(item: int, deadline: Deadline) -> int:
        begun.set()
        release.wait()
        return item

    pool = LimitedPool(1, LONG)
    future = pool.submit([1], wait, _never, _parts)
    begun.wait()
    closing = threading.Thread(target=pool.close)
    closing.start()
    release.set()
    closing.join(LONG)
    assert future.result(0) == [1]


def test_closing_does_not_wait_for_what_is_limited(release: threading.Event) -> None:
    begun = threading.Event()

    def wait(item: int, deadline: Deadline) -> int:
        with deadline.armed():
            begun.set()
            release.wait()
        return item

    pool = LimitedPool(2, 60 * LONG)
    future = pool.submit([1, 2], wait, _never, _parts)
    begun.wait()
    pool.close()
    with pytest.raises(CancelledError):
        future.result(0)


def test_tasks_are_done_or_dropped_whenever_the_pool_is_closed() -> None:
    def arm(item: int, deadline: Deadline) -> int:
        with deadline.armed():
            return item

    for delay in range(200):
        pool = LimitedPool(3, LONG)
        futures = [pool.submit(range(4), arm, _never, _parts) for _ in range(10)]
        threading.Event().wait(delay * 1e-5)
        pool.close()
        for future in futures:
            with contextlib.suppress(CancelledError):
                assert future.result(0) == [0, 1, 2, 3]


def test_the_threads_of_a_forgotten_pool_end() -> None:
    before = {*threading.enumerate()}
    pool = LimitedPool(3, LONG)
    assert pool.submit([1], lambda item, deadline: item, _never, _parts).result() == [1]
    threads = {*threading.enumerate()} - before
    assert len(threads) == 4  # with the one that watches the time
    del pool
    gc.collect()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


EXIT = """
import threading
from featureid.limited_pool import LimitedPool

def stuck(item, deadline):
    with deadline.armed():
        begun.release()
        threading.Event().wait()

def busy(item, deadline):
    begun.release()
    sum(range(10_000_000))
    print("done", flush=True)

begun = threading.Semaphore(0)
hasty = LimitedPool(1, 0.1)
late = hasty.submit([1], stuck, lambda item, deadline: "late", lambda items, parts: parts)
assert late.result() == ["late"]
patient = LimitedPool(2, 3600)
patient.submit([1], stuck, None, None)
patient.submit([1], busy, None, lambda items, parts: None)
for _ in range(3):
    begun.acquire()
"""


def test_a_process_ends_after_what_is_at_work_and_without_what_is_stuck() -> None:
    command = [sys.executable, "-c", EXIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_under_any_load_each_item_is_done_or_too_long() -> None:
    """Many of them end at the moment at which their time is over."""
    pause = threading.Event()

    def work(item: int, deadline: Deadline) -> tuple[int, bool]:
        with deadline.armed():
            pause.wait(0.001 * (item % 5))
        return item, True

    pool = LimitedPool(4, 0.002)
    tasks = [range(n, n + 5) for n in range(100)]
    futures = [
        pool.submit(task, work, lambda item, deadline: (item, False), _parts) for task in tasks
    ]
    found = [future.result() for future in futures]
    pool.close()
    assert [[item for item, _ in parts] for parts in found] == [[*task] for task in tasks]
    assert {in_time for parts in found for _, in_time in parts} == {True, False}


def test_a_deadline_is_missed_only_while_it_is_armed() -> None:
    deadline = Deadline(0)
    assert not deadline.is_missed()
    with deadline.armed():
        pass
    assert not deadline.is_missed()
    with pytest.raises(BaseException) as left, deadline.armed():
        assert deadline.left() == 0 and deadline.is_missed()
    assert not isinstance(left.value, Exception)  # no handler of errors takes it for one
    generous = Deadline(60)
    with generous.armed():
        assert not generous.is_missed() and 0 < generous.left() <= 60
