"""Work on several threads: in order, bounded, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from featureid.parallel import Deadline, LimitedThread, available_cpus, map_in_order


def test_there_is_at_least_one_cpu() -> None:
    assert available_cpus() >= 1


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    assert list(map_in_order(str, range(50), threads)) == [(n, str(n)) for n in range(50)]
    assert list(map_in_order(str, [], threads)) == []


@pytest.mark.parametrize(("threads", "most"), [(1, 1), (3, 7)])
def test_no_more_is_begun_than_two_items_a_thread(threads: int, most: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = map_in_order(str, items(), threads)
    next(results)
    assert len(taken) == most
    results.close()


def test_an_error_comes_where_its_result_would_have_and_ends_the_threads() -> None:
    before = threading.active_count()
    results = map_in_order(lambda n: 10 // n, [5, 2, 0, 1], 2)
    assert [next(results), next(results)] == [(5, 2), (2, 5)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


def test_a_limited_thread_gives_results_and_errors_and_is_used_again() -> None:
    thread = LimitedThread()

    def identify(item: int, deadline: Deadline) -> tuple[int, int]:
        with deadline.armed():
            return item, threading.get_ident()

    def fail(item: type[Exception], deadline: Deadline) -> None:
        with deadline.armed():
            raise item("its own")

    found = thread.call_each(identify, range(3), 60, _never)
    assert [item for item, _ in found] == [0, 1, 2]
    for error in (ValueError, TimeoutError):
        with pytest.raises(error, match="its own"):
            thread.call_each(fail, [error], 60, _never)
    found += thread.call_each(identify, [3], 60, _never)
    names = {name for _, name in found}
    assert len(names) == 1 and threading.get_ident() not in names
    assert thread.call_each(identify, [], 60, _never) == []
    thread.close()


def _never(item: object, deadline: Deadline) -> Any:
    raise AssertionError(item)


def test_work_that_takes_too_long_is_left_behind_and_the_rest_is_done() -> None:
    thread, end, left = LimitedThread(), threading.Event(), list[threading.Thread]()
    done = []

    def wait_in_a_library(item: str, deadline: Deadline) -> str:
        deadline.stage = f"wait for {item}"
        with deadline.armed():
            if item == "slow":
                left.append(threading.current_thread())
                end.wait()
        done.append(item)
        return item

    found = thread.call_each(
        wait_in_a_library,
        ["one", "slow", "two", "slow", "three"],
        0.2,
        lambda item, deadline: f"{deadline.stage}: over {deadline.seconds} s",
    )
    over = "wait for slow: over 0.2 s"
    assert found == ["one", over, "two", over, "three"]
    end.set()
    for one in left:
        one.join(60)
        assert not one.is_alive()
    assert len(left) == 2 and done == ["one", "two", "three"]
    thread.close()


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
