"""What a nightly run decides to do, from the listing and the snapshot before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.errors import UsageError
from featureid.inputs import ImageRef
from featureid.refresh import (
    Changes,
    PartitionPlan,
    Planner,
    RefreshPolicy,
    check_stored,
    plan_partition,
    refreshed_num_shards,
    with_num_shards,
)
from featureid.storage.carry import RowIndex
from featureid.storage.reader import open_snapshot
from featureid.storage.records import Failure, ModelInfo
from featureid.storage.shard import shard_of
from tests.storage_samples import FAILURES, make_info, make_row, write_snapshot

KNOWN = {"a": "1", "b": "1", "b2": "1", "c": "1"}
FAILED = Failure("f", "decode", "corrupt", "bad", "1")
UNREAD = Failure("u", "read", "unreadable", "no permission", "1")


Known = tuple[RowIndex, list[Failure]]
NOTHING: Known = RowIndex(), []


def known(rows: dict[str, str], *failures: Failure, faces: int = 1) -> Known:
    keys = [key for key in sorted(rows) for _ in range(faces)]
    digests = np.array([[ord(key[0])] * 32 for key in keys], np.uint8).reshape(-1, 32)
    return RowIndex(keys, [rows[key] for key in keys], digests), [*failures]


def plan(
    listed: dict[str, str], previous: Known, unlisted: tuple[str, ...] = (), **policy: Any
) -> PartitionPlan:
    refs = [ImageRef(key, f"/{key}", version) for key, version in listed.items()]
    return plan_partition(refs, *previous, RefreshPolicy(**policy), unlisted)


def keys(refs: list[ImageRef]) -> set[str]:
    return {ref.key for ref in refs}


def test_only_what_is_new_or_changed_is_embedded() -> None:
    found = plan({"a": "1", "b": "2", "d": "1"}, known(KNOWN))
    assert keys(found.embed) == {"b", "d"}
    assert found.carry.tolist() == [True, False, False, False]
    assert found.changes == Changes(new=1, changed=1, unchanged=1, deleted=2)
    assert (found.changes.images, found.changes.previous) == (3, 4)


def test_without_a_previous_snapshot_all_is_new() -> None:
    found = plan({"a": "1", "b": ""}, NOTHING)
    assert keys(found.embed) == {"a", "b"}
    assert found.changes == Changes(new=2)


def test_an_image_without_a_source_version_is_embedded() -> None:
    found = plan({"a": ""}, known({"a": ""}))
    assert keys(found.embed) == {"a"} and not found.carry.any()


def test_all_faces_of_an_image_are_carried_together() -> None:
    found = plan({"a": "1", "c": "2"}, known({"a": "1", "c": "1"}, faces=3))
    assert found.carry.tolist() == [True] * 3 + [False] * 3
    assert found.changes == Changes(changed=1, unchanged=1)


def test_known_failures_are_carried_unless_they_are_to_be_tried_again() -> None:
    previous = known({}, FAILED)
    assert plan({"f": "1"}, previous).failures == [FAILED]
    assert plan({"f": "1"}, previous).changes == Changes(unchanged=1)
    for found in (plan({"f": "1"}, previous, retry_failed=True), plan({"f": "2"}, previous)):
        assert keys(found.embed) == {"f"} and not found.failures
    assert plan({"f": "1"}, previous, retry_failed=True).changes == Changes(retried=1)
    assert plan({}, previous).changes == Changes(deleted=1)


def test_what_could_not_be_read_is_tried_again() -> None:
    found = plan({"u": "1", "f": "1"}, known({}, FAILED, UNREAD))
    assert keys(found.embed) == {"u"} and found.failures == [FAILED]


@pytest.mark.parametrize("stage", ["decode", "embed"])
def test_what_lacked_memory_is_tried_again(stage: str) -> None:
    lacking = Failure("m", stage, "no-memory", "not enough memory", "1")
    assert keys(plan({"m": "1"}, known({}, lacking)).embed) == {"m"}


def test_a_folder_that_could_not_be_listed_is_no_image() -> None:
    listing = Failure("folder", "list", "unreadable", "no permission")
    assert plan({}, known({}, listing)).changes == Changes()


def test_nothing_is_deleted_below_a_folder_that_could_not_be_listed() -> None:
    rows = {"x/a": "1", "xy/a": "1"}
    failed = Failure("x/f", "decode", "corrupt", "bad", "1")
    found = plan({}, known(rows, failed), unlisted=("x",))
    assert found.carry.tolist() == [True, False] and found.failures == [failed]
    assert found.changes == Changes(unchanged=2, deleted=1)
    again = plan({}, known(rows, failed), unlisted=("x",), re_embed=True)
    assert not again.carry.any() and again.changes == Changes(deleted=3)


def test_by_content_every_known_image_is_compared() -> None:
    found = plan({"a": "1", "b": "2", "d": "1"}, known(KNOWN), check="content")
    assert keys(found.embed) == {"d"} and not found.carry.any()
    assert [(c.ref.key, c.sha256, c.touched) for c in found.compare] == [
        ("a", b"a" * 32, False),
        ("b", b"b" * 32, True),
    ]
    assert found.changes == Changes(new=1, changed=2, deleted=2)
    assert found.changes.compared(2) == Changes(new=1, unchanged=2, deleted=2)


def test_re_embedding_embeds_all() -> None:
    found = plan({"a": "1", "f": "1"}, known({"a": "1"}, FAILED), re_embed=True)
    assert keys(found.embed) == {"a", "f"}
    assert not found.carry.any() and not found.failures


def test_of_one_key_twice_the_first_uri_counts() -> None:
    refs = [ImageRef("a", "/2", "1"), ImageRef("a", "/1", "9"), ImageRef("a", "/3", "1")]
    found = plan_partition(refs, *NOTHING, RefreshPolicy())
    assert [ref.uri for ref in found.embed] == ["/1"] and found.changes.images == 1


VERSIONS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["", "1", "2"]))


@given(VERSIONS, VERSIONS, VERSIONS, st.booleans(), st.integers(1, 2))
def test_every_image_has_one_fate(
    listed: dict[str, str],
    rows: dict[str, str],
    failed: dict[str, str],
    retry_failed: bool,
    faces: int,
) -> None:
    failures = [
        Failure(key, "decode", "corrupt", "bad", version)
        for key, version in failed.items()
        if key not in rows
    ]
    previous = index, _ = known(rows, *failures, faces=faces)
    found = plan(listed, previous, retry_failed=retry_failed)
    kept = [key for key, carry in zip(index.keys, found.carry, strict=True) if carry]
    fates = [*keys(found.embed), *set(kept), *(failure.key for failure in found.failures)]
    assert sorted(fates) == sorted(listed)
    assert all(kept.count(key) == faces and listed[key] == rows[key] != "" for key in kept)
    assert found.changes.images == len(listed)
    assert found.changes.previous == len(rows) + len(failures)


def test_partitions_are_the_shards_of_the_previous_snapshot(tmp_path: Path) -> None:
    keys = [f"{n}.jpg" for n in range(40)]
    write_snapshot(tmp_path, keys, num_shards=3)
    previous = open_snapshot(tmp_path)
    planner = Planner(previous, RefreshPolicy())
    assert planner.num_partitions == 3
    assert all(planner.partition_of(key) == shard_of(key, 3) for key in keys)
    failures = planner.known_failures()
    for number, of_partition in enumerate(failures):
        wanted = [failure for failure in sorted(FAILURES) if shard_of(failure.key, 3) == number]
        assert of_partition == wanted
    refs = [ImageRef(key, f"/{key}", make_row(key).source_version) for key in [*keys[1:], "new"]]
    total = Changes()
    for number in range(3):
        own = [ref for ref in refs if planner.partition_of(ref.key) == number]
        found = planner.plan(number, own, failures[number], [])
        shard = previous.shard(number)
        assert found.carry.tolist() == [key != "0.jpg" for key in shard.row_keys()]
        total += found.changes
    assert total == Changes(new=1, unchanged=39, deleted=3)


def test_a_full_run_has_partitions_without_a_previous_snapshot() -> None:
    planner = Planner(None, RefreshPolicy())
    assert planner.known_failures() == [[]] * planner.num_partitions
    ref = ImageRef("a", "/a")
    found = planner.plan(planner.partition_of("a"), [ref], [], [])
    assert found.embed == [ref] and found.changes == Changes(new=1)


def test_rows_of_another_type_are_refused() -> None:
    model = ModelInfo("image", "sha256:aa", "sha256:bb", 4)
    check_stored(model, model, "out")
    with pytest.raises(UsageError, match=r"float32, this run float16.*`re_embed=True`"):
        check_stored(model, replace(model, dtype="float16"), "out")


def test_what_is_gone_is_counted_by_folder() -> None:
    rows = {"a": "1", "x/a": "1", "x/b": "1", "x/y/a": "1", "z/a": "1", "z/b": "", "kept/a": "1"}
    failures = [replace(FAILED, key="x/f"), replace(FAILED, key="z/f")]
    # Those in z are listed, as by a manifest, and only what had a version can have lost it.
    listed = {"kept/a": "2", "z/a": "", "z/b": "", "z/f": ""}
    for policy in ({}, {"re_embed": True}, {"check": "content"}):
        found = plan(listed, known(rows, *failures), **policy)
        assert found.missing == {"": 1, "x": 3, "x/y": 1, "z": 2}
        assert found.changes.deleted == 5
    unlisted = plan({}, known({"x/a": "1", "b": "1"}), unlisted=("x",))
    assert unlisted.missing == {"": 1}


def test_folders_that_have_images() -> None:
    planner = Planner(None, RefreshPolicy())
    unlisted = Failure("x/y", "list", "unreadable", "no permission")
    assert planner.found_folder(ImageRef("x/a", "/x/a", "1")) == "x"
    assert planner.found_folder(ImageRef("s3://b/a", "s3://b/a")) == "s3://b"
    assert planner.found_folder(ImageRef("x/a", "/x/a")) is None
    assert planner.found_folder(unlisted) == "x/y"
    assert Planner(None, RefreshPolicy(re_embed=True)).found_folder(unlisted) is None


@pytest.mark.parametrize(
    ("wanted", "previous", "number"),
    [(1, 1, 1), (3, 2, 2), (4, 2, 4), (9, 2, 8), (5, 8, 8), (4, 8, 4), (1, 8, 1), (1, 7, 7)],
)
def test_the_number_of_shards_stays_or_doubles_or_halves(
    wanted: int, previous: int, number: int
) -> None:
    assert refreshed_num_shards(wanted, previous) == number


def test_the_number_of_shards_is_the_users_or_follows_the_images(tmp_path: Path) -> None:
    info = make_info(5, dimension=128)
    images = 1_000_000  # of 612 bytes each: 12 shards of 50 MB
    assert with_num_shards(info, images, None, fixed=True) == info
    assert with_num_shards(info, images, None, fixed=False) == replace(info, num_shards=12)
    write_snapshot(tmp_path, [], num_shards=4)
    previous = open_snapshot(tmp_path)
    assert with_num_shards(info, images, previous, fixed=True) == info
    assert with_num_shards(info, images, previous, fixed=False).num_shards == 8


def test_policies_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="`re_embed`"):
        RefreshPolicy(check="content", re_embed=True)
