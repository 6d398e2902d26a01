"""Work on several threads: in order, bounded, and errors where they belong."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator

import pytest

from featureid.parallel import LimitedThread, TookTooLongError, available_cpus, map_in_order


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
    names = {thread.call(lambda: threading.current_thread().ident, 60) for _ in range(3)}
    assert len(names) == 1 and threading.get_ident() not in names
    for error in (ValueError, TimeoutError):
        with pytest.raises(error, match="its own"):
            thread.call(functools.partial(_fail, error), 60)
    assert {thread.call(lambda: threading.current_thread().ident, 60)} == names
    thread.close()


def _fail(error: type[Exception]) -> None:
    raise error("its own")


def test_work_that_takes_too_long_is_left_behind() -> None:
    thread, end, left = LimitedThread(), threading.Event(), list[threading.Thread]()

    def wait_in_a_library() -> None:
        left.append(threading.current_thread())
        end.wait()

    with pytest.raises(TookTooLongError):
        thread.call(wait_in_a_library, 0.2)
    assert thread.call(lambda: "other work", 60) == "other work"
    end.set()
    left[0].join(60)
    assert not left[0].is_alive()
    thread.close()
