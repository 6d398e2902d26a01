"""The histogram of a collection's scores, and how many false pairs it foretells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from featureid.matching.collection import Collection
from featureid.matching.duplicates import DuplicateOptions, find_duplicates
from featureid.matching.histogram import Histogram, histogram_of, tail_rate
from tests.matching_samples import sample
from tests.test_duplicates import collection, fan

OPTIONS = DuplicateOptions(0.9)


def histogram(rows: Collection, options: DuplicateOptions = OPTIONS) -> Histogram:
    return histogram_of(rows, find_duplicates(rows, options), options)


def test_pairs_are_counted_in_their_bins_but_not_those_of_a_group() -> None:
    found = histogram(collection(fan(0, 1, 90, 180)))
    bins = {found.edges[number]: count for number, count in enumerate(found.counts) if count}
    # cosines of 90, 180, 89, 179 and 90 degrees; 0 and 1 are a group
    assert sum(bins.values()) == found.sampled == 5 and bins[-1.0] == 2
    assert (found.pairs, found.false_pairs) == (6, None)


def test_known_rows_are_not_paired_with_each_other() -> None:
    rows = replace(collection(fan(0, 60, 120, 180)), origin=np.array([0, 0, 1, 1], np.int8))
    assert (histogram(rows).sampled, histogram(rows).pairs) == (5, 5)
    across = histogram(rows, DuplicateOptions(0.9, across=True))
    assert (across.sampled, across.pairs) == (4, 4)


def test_the_tail_foretells_more_pairs_than_there_are_but_not_many_more() -> None:
    scores = np.random.default_rng(3).normal(0, 0.2, 3_000_000).astype(np.float32)
    for threshold in (0.8, 0.9):
        real = math.erfc(threshold / 0.2 / math.sqrt(2)) / 2
        rate = tail_rate(scores, threshold)
        assert rate is not None and real < rate < 3 * real
    assert tail_rate(scores[:200_000], 0.2) == pytest.approx(0.1587, rel=0.05)
    assert tail_rate(scores[:99_999], 0.9) is None


def test_white_noise_has_no_false_pairs() -> None:
    found = histogram(collection(sample("random", 600, 128, 4)))
    assert found.sampled == found.pairs == 600 * 599 // 2
    assert found.false_pairs is not None and found.false_pairs < 1e-3
