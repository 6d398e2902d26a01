"""What a new snapshot may do to the current one: rules, limits, and what their errors say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import FeatureIdError, MixedModelsError, UsageError
from featureid.storage.records import ModelInfo
from featureid.storage.safeguards import (
    DEFAULT_LIMIT,
    DeletionLimit,
    Safeguards,
    check_current,
    check_missing,
    check_model,
    emptied_folders,
)
from tests.storage_samples import ID, make_info, write_snapshot

MODEL = ModelInfo("image", "sha256:aa", "sha256:bb", 4)
NO_FOLDERS = Safeguards(max_deleted=DeletionLimit(percent=100))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0", DeletionLimit()),
        ("100", DeletionLimit(images=100)),
        ("5%", DeletionLimit(percent=5)),
        ("0.1%", DeletionLimit(percent=0.1)),
        ("100%", DeletionLimit(percent=100)),
    ],
)
def test_limits(text: str, limit: DeletionLimit) -> None:
    assert DeletionLimit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "0.5", "-1", "5 %", "101%", "%", "1e3", "½", "٣", "nan%"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match=r"`max_deleted` is .*such as 100, or a share"):
        DeletionLimit.parse(text)


def test_a_few_images_or_a_small_share_may_be_missing() -> None:
    assert [DEFAULT_LIMIT.of(total) for total in (3, 100, 119, 120, 1000)] == [5, 5, 5, 6, 50]
    assert [DeletionLimit(images=7).of(total) for total in (3, 1000)] == [7, 7]
    assert DeletionLimit(percent=29).of(100) == 29 and DeletionLimit(percent=0.1).of(999) == 0


@given(st.integers(0, 50), st.floats(0, 100), st.integers(0, 10**7))
def test_a_limit_allows_what_it_says(images: int, percent: float, total: int) -> None:
    limit = DeletionLimit(images, percent)
    assert limit.allows(limit.of(total), total) and not limit.allows(limit.of(total) + 1, total)


def test_another_model_is_refused_naming_both() -> None:
    check_model("out", MODEL, MODEL)
    check_model("out", MODEL, replace(MODEL, dtype="float16", name="renamed"))
    for other, difference in [
        (replace(MODEL, name="face", digest="sha256:cc"), "The model digest differs. "),
        (replace(MODEL, preprocessing_digest="dd"), "preprocessing digest differs: 'sha256:bb' th"),
        (replace(MODEL, dimension=8), "The dimension differs: '4' there, '8' here"),
        (replace(MODEL, faces="dlib all"), "choice of faces differs: '' there, 'dlib all' here"),
    ]:
        with pytest.raises(MixedModelsError) as caught:
            check_model("out", MODEL, other)
        message = str(caught.value)
        assert (
            f"'image' ({MODEL.digest})" in message and f"{other.name!r} ({other.digest})" in message
        )
        assert difference in message and "`output`" in message and "`new_model`" in message


def test_the_current_snapshot_is_neither_mixed_nor_emptied(tmp_path: Path) -> None:
    output, model = str(tmp_path), make_info().model
    check_current(output, model, Safeguards(), images=0)  # There is none.
    write_snapshot(tmp_path, [f"{n}" for n in range(10)], failures=())
    check_current(output, model, Safeguards(), images=5)
    with pytest.raises(FeatureIdError, match=r"10 images, .*4: 6 fewer, .*5 may.*max_deleted=6`"):
        check_current(output, model, Safeguards(), images=4)
    check_current(output, model, NO_FOLDERS, images=0)
    with pytest.raises(MixedModelsError):
        check_current(output, MODEL, NO_FOLDERS)
    check_current(output, MODEL, Safeguards(new_model=True))


def test_a_current_snapshot_that_is_gone_or_damaged_is_no_obstacle(tmp_path: Path) -> None:
    write_snapshot(tmp_path, ["a"])
    manifest = tmp_path / "snapshots" / ID / "manifest.json"
    manifest.write_bytes(b"{}")
    check_current(str(tmp_path), MODEL, Safeguards())
    manifest.unlink()
    check_current(str(tmp_path), MODEL, Safeguards(), images=0)


def test_emptied_folders_are_named_once() -> None:
    missing = ["a", "a/b", "a/b/c", "d/e", "f/g/h", "f/g/i", "j"]
    found = ["d", "f/x", "j/k"]
    assert emptied_folders(missing, found) == {
        "a": ["a", "a/b", "a/b/c"],
        "d/e": ["d/e"],
        "f/g": ["f/g/h", "f/g/i"],
    }
    assert emptied_folders(["/mnt/photos/a", "/mnt/photos/b"], ["/srv"]) == {
        "/mnt/photos": ["/mnt/photos/a", "/mnt/photos/b"]
    }
    assert emptied_folders(["", "a"], []) == {"": ["", "a"]}
    assert emptied_folders(["s3://a/x", "s3://a/y"], ["s3://b"]) == {
        "s3://a": ["s3://a/x", "s3://a/y"]
    }


FOLDERS = st.lists(
    st.sampled_from(["", "a", "a/b", "a/b/c", "ab", "d", "d/e", "d/e/f"]), unique=True
)


@given(FOLDERS, FOLDERS)
def test_a_folder_is_emptied_if_nothing_is_in_or_below_it(
    missing: list[str], found: list[str]
) -> None:
    emptied = emptied_folders(missing, found)
    inside = [folder for folders in emptied.values() for folder in folders]
    for folder in missing:
        below = folder + "/" if folder else ""
        alive = any(f"{other}/".startswith(below) for other in found)
        assert (folder in inside) == (not alive)
    assert len(inside) == len(set(inside))


def stopped(missing: dict[str, int], found: list[str], total: int, **allowed: object) -> str:
    """Return why a run stops; "" if it does not."""
    one, *others = [{folder: number} for folder, number in missing.items()] or [{}]
    try:
        check_missing([one, *others], found, total, Safeguards(**allowed))  # type: ignore[arg-type]
    except FeatureIdError as error:
        return str(error)
    return ""


def test_a_few_deleted_images_do_not_stop_a_run() -> None:
    assert not stopped({}, [], 100)
    assert not stopped({"a": 1}, ["a"], 3)
    assert not stopped({"a": 5}, ["a"], 7)
    assert not stopped({"a": 1, "b": 1, "c": 1}, ["a", "d"], 9)  # b and c had one image each.
    assert not stopped({"a": 50}, ["a"], 1000)


def test_an_emptied_folder_stops_a_run() -> None:
    message = stopped({"a": 2}, ["b"], 1000)
    assert message.startswith(
        "2 of the 1000 images of the previous snapshot are missing: all 2 in 'a'; no folder may "
        "lose all of its images. Nothing is published. "
    )
    assert message.endswith("If the images are really gone, add `allow_empty_folders`")
    assert not stopped({"a": 2}, ["b"], 1000, allow_empty_folders=True)
    assert stopped({"a": 2}, ["b"], 1000, max_deleted=DeletionLimit(percent=100))
    assert stopped({"a/b": 1, "a/c": 1}, ["b"], 1000)  # One folder that had two.


def test_too_many_deleted_images_stop_a_run() -> None:
    message = stopped({"a": 51}, ["a"], 1000)
    assert message.startswith(
        "51 of the 1000 images of the previous snapshot are missing: 51 in 'a'; at most 50 may be "
        "missing. Nothing is published. "
    )
    assert message.endswith("If the images are really gone, add `max_deleted=51`")
    assert not stopped({"a": 51}, ["a"], 1000, max_deleted=DeletionLimit(images=51))
    assert not stopped({"a": 51}, ["a"], 1000, max_deleted=DeletionLimit(percent=5.1))


def test_of_many_folders_a_few_are_named() -> None:
    missing = {"": 3, "a/b": 40, "a/c": 30, "d": 8, **{f"e/{n}": 1 for n in range(9)}}
    message = stopped(missing, ["", "e", *(f"e/{n}" for n in range(9))], 200)
    assert "all 70 in 'a', all 8 in 'd', 3 in '.', and 9 in 9 more folders; at most 10 " in message
    assert message.endswith("add `max_deleted=90` and `allow_empty_folders`")


@given(st.dictionaries(FOLDERS.map("/".join), st.integers(1, 9)), FOLDERS)
def test_the_places_add_up(missing: dict[str, int], found: list[str]) -> None:
    import re

    message = stopped(missing, found, 10_000, max_deleted=DeletionLimit())
    numbers = re.findall(r"(?:all |and |: |, )(\d+) in ", message)
    assert sum(map(int, numbers)) == Counter(missing).total()
