"""Names of people by pictures of known people."""

import numpy as np
import pytest

from featureid.errors import UsageError
from featureid.matching.people import People, person_of


@pytest.mark.parametrize(
    ("key", "person"),
    [
        ("Anna/1.jpg", "Anna"),
        ("Anna/2024/1.jpg", "Anna"),
        ("Anna.jpg", "Anna"),
        ("anna_02.jpg", "anna"),
        ("Anna 2.jpg", "Anna"),
        ("Anna (12).png", "Anna"),
        ("7.jpg", "7"),
        ("/photos/people/Anna/1.jpg", "Anna"),
        ("s3://bucket/people/Anna/1.jpg", "Anna"),
    ],
)
def test_folders_and_names_name_people(key: str, person: str) -> None:
    assert person_of(key) == person


def test_a_face_is_most_like_the_person_of_the_best_picture() -> None:
    axes = np.eye(4, dtype=np.float32)
    people = People(["b/1.jpg", "a/2.jpg", "a/1.jpg"], axes[[0, 1, 1]])
    assert people.names == ["a", "b"]
    first, second = people.most_like(np.stack([0.6 * axes[0] + 0.8 * axes[1], axes[0]]))
    assert (first.person, first.key) == ("a", "a/1.jpg")  # of equal pictures the first by key
    assert first.score == pytest.approx(0.8)
    assert (second.person, second.key, second.score) == ("b", "b/1.jpg", 1)


def test_nobody_is_an_error() -> None:
    with pytest.raises(UsageError, match="no face of a known person"):
        People([], np.empty((0, 4), np.float32))
