"""Connected rows: the same sets, however their pairs are cut into parts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featureid.matching.forest import Forest, connected

PAIRS = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=80)


def naive_labels(pairs: list[tuple[int, int]], rows: int) -> list[int]:
    labels = [*range(rows)]
    for one, other in pairs:
        lower, higher = sorted((labels[one], labels[other]))
        labels = [lower if label == higher else label for label in labels]
    return labels


@given(PAIRS, st.integers(1, 9))
def test_sets_are_the_same_in_any_order(pairs: list[tuple[int, int]], step: int) -> None:
    forest, again = Forest(40), Forest(40)
    columns = np.array(pairs, np.intp).reshape(-1, 2)
    for start in range(0, len(columns), step):
        forest.join(*columns[start : start + step].T)
    again.join(*forest.edges())
    assert forest.labels().tolist() == again.labels().tolist() == naive_labels(pairs, 40)
    numbers, roots = connected(columns[:, 0] * 1000, columns[:, 1] * 1000)
    wanted = naive_labels(pairs, 40)
    assert numbers.tolist() == sorted({1000 * row for pair in pairs for row in pair})
    assert roots.tolist() == [1000 * wanted[number // 1000] for number in numbers.tolist()]


def test_a_long_chain_is_one_set() -> None:
    rows = np.random.default_rng(1).permutation(100_000)
    forest = Forest(len(rows))
    forest.join(rows[1:], rows[:-1])
    assert not forest.labels().any()
