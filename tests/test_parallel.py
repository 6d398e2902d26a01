"""Work on several threads: in order, bounded, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from featureid.parallel import available_cpus, map_in_order


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
