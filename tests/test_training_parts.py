from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featureid.errors import UsageError
from featureid.images.pdq import HASH_BYTES
from featureid.matching.hashes import Hashes
from featureid.training.edits import EDITS, draw_edits, edited
from featureid.training.loading import copies_across
from featureid.training.principal import principal_components
from featureid.training.sampling import class_batches, random_triplets
from featureid.training.split import split_classes
from featureid.training.whitening import learned_whitening

_LABELS = st.lists(st.integers(2, 6), min_size=2, max_size=8).flatmap(
    lambda counts: st.permutations([n for n, count in enumerate(counts) for _ in range(count)])
)
_SEEDS = st.integers(0, 1 << 30)


@given(labels=_LABELS, seed=_SEEDS)
def test_each_image_is_the_anchor_of_one_random_triplet(labels: Sequence[int], seed: int) -> None:
    classes = np.array(labels)

    triplets = random_triplets(classes, np.random.default_rng(seed))

    anchors, positives, negatives = triplets.T
    assert sorted(anchors.tolist()) == [*range(len(classes))]
    assert (classes[anchors] == classes[positives]).all()
    assert (anchors != positives).all()
    assert (classes[anchors] != classes[negatives]).all()


def test_random_triplets_take_every_positive_and_every_class_of_negatives() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    rng = np.random.default_rng(0)

    drawn = np.concatenate([random_triplets(labels, rng) for _ in range(200)])

    of_first = drawn[drawn[:, 0] == 0]
    assert {*of_first[:, 1].tolist()} == {1, 2}
    assert {*of_first[:, 2].tolist()} == {3, 4, 5, 6}
    assert abs((labels[of_first[:, 2]] == 1).mean() - 0.5) < 0.15


@given(labels=_LABELS, classes=st.integers(2, 5), images=st.integers(2, 5), seed=_SEEDS)
def test_batches_of_classes_hold_every_image(
    labels: Sequence[int], classes: int, images: int, seed: int
) -> None:
    numbers = np.array(labels)

    batches = class_batches(numbers, classes, images, np.random.default_rng(seed))

    assert {*np.concatenate(batches).tolist()} == {*range(len(numbers))}
    for batch in batches:
        groups = numbers[batch].reshape(-1, images)
        assert (groups == groups[:, :1]).all()
        assert len(groups) >= 2
    again = class_batches(numbers, classes, images, np.random.default_rng(seed))
    assert all(map(np.array_equal, batches, again))


def test_classes_are_split_and_never_cut() -> None:
    names = [f"class {number}" for number in range(20) for _ in range(3)] + ["alone"]

    split = split_classes(names, 0.2, 0.2, seed=1)

    parts = [split.train, split.validation, split.test]
    found = [{names[row] for row in rows} for rows in parts]
    assert [len(classes) for classes in found] == [12, 4, 4]
    assert not any(one & other for one, other in itertools.combinations(found, 2))
    assert sum(map(len, parts)) == 60
    assert split.left_out == ("alone",)
    assert split.part_of(61)[60] == -1
    assert split.part_of(61)[split.test].tolist() == [2] * 12


def test_a_class_goes_where_the_user_puts_it() -> None:
    names = [f"class {number}" for number in range(10) for _ in range(2)]
    given = ["test" if name == "class 3" else "" for name in names]

    split = split_classes(names, 0.2, 0.2, seed=1, given=given)

    assert {6, 7} <= {*split.test.tolist()}
    assert len(split.test) == 4


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["a", "a", "b", "b", "c"], None, "each needs 2"),
        (["a", "a"] * 6, ["train", "test"] * 6, "'a' is split between train and test"),
        (["a", "a"] * 6, ["tests"] * 12, "it is one of train, validation, test"),
    ],
)
def test_what_cannot_be_split_is_refused(
    names: list[str], given: list[str] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        split_classes(names, 0.2, 0.2, seed=1, given=given)


def test_whitening_finds_the_directions_that_tell_classes_apart() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(30), 6)
    means = np.zeros((30, 20))
    means[:, :4] = rng.normal(size=(30, 4))
    noise = np.concatenate([np.full(4, 0.2), np.full(16, 2.0)])
    features = (means[labels] + rng.normal(size=(180, 20)) * noise).astype(np.float32)

    matrix, offset = learned_whitening(features, labels, 4)

    assert matrix.dtype == offset.dtype == np.float32
    assert (matrix.shape, offset.shape) == ((20, 4), (4,))
    assert np.abs((features @ matrix + offset).mean(axis=0)).max() < 1e-4
    assert _separation(features @ matrix, labels) > 4 * _separation(features, labels)


def test_whitening_cannot_add_dimensions() -> None:
    with pytest.raises(UsageError, match="gives only 3 features"):
        learned_whitening(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), 4)


def _separation(vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.intp]) -> float:
    """Return how far apart classes are, relative to their images."""
    means = np.stack([vectors[labels == label].mean(axis=0) for label in np.unique(labels)])
    within = np.sqrt(((vectors - means[labels]) ** 2).sum(axis=1).mean())
    return float(np.sqrt(((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()) / within)


@pytest.mark.parametrize("copies", [4, 100])
def test_copies_of_an_image_in_two_parts_are_found(copies: int) -> None:
    bits = np.random.default_rng(1).integers(256, size=(copies + 3, HASH_BYTES)).astype(np.uint8)
    bits[3:] = bits[0]
    hashes = Hashes.of(bits, np.full(len(bits), 100, np.uint8))
    parts = np.arange(len(bits)) % 2
    parts[:5] = 0, 0, 1, 0, -1
    pairs = copies_across(hashes, parts)
    in_pairs = {row for pair in pairs for row in pair}
    assert in_pairs == {0, 3, *range(5, len(bits))}
    assert all(parts[one] != parts[other] for one, other in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert len(pairs) == copies - 1  # of few, all three
    assert copies_across(hashes, np.minimum(parts, 0)) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 5), (30, 20)])
def test_edits_take_photos_of_any_size(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, (200, 100, 50))
    for names in [*([name] for name in EDITS), [*EDITS]]:
        found = edited(photo, names)
        assert found.mode == "RGB" and min(found.size) >= 1
    assert photo == Image.new("RGB", size, (200, 100, 50))


def test_copies_are_edited_once_twice_and_three_times() -> None:
    drawn = [*draw_edits(9, 3, np.random.default_rng(4))]
    assert [len(names) for names in drawn] == [1, 2, 3] * 3
    assert all(len({*names}) == len(names) for names in drawn)
    assert drawn == [*draw_edits(9, 3, np.random.default_rng(4))]
    assert drawn != [*draw_edits(9, 3, np.random.default_rng(5))]


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(8)
    features = (rng.normal(size=(9000, 6)) * [9, 7, 5, 3, 2, 1] + 4).astype(np.float32)

    matrix, offset = principal_components(features, 3)

    _, _, wanted = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    assert np.abs(np.abs(wanted[:3] @ matrix) - np.eye(3)).max() < 1e-4
    assert np.abs((features @ matrix + offset).mean(axis=0)).max() < 1e-3
