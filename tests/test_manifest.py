"""The manifest: it survives a round trip; edited and invalid ones are refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from featureid.errors import CorruptFileError, StorageError
from featureid.keys import ImageLocations
from featureid.storage.manifest import (
    Counts,
    FileSummary,
    Manifest,
    build_manifest,
    count_outcomes,
    digest_of,
)
from featureid.storage.shard import ShardSummary, shard_name
from tests.storage_samples import FAILURES, make_info


def summary(number: int, total: int = 2, rows: int = 3) -> ShardSummary:
    return ShardSummary(shard_name(number, total), rows, 1000, "ab" * 32, "a", "é", rows)


def make_manifest() -> Manifest:
    failures = [FileSummary("failures-00000-of-00001.jsonl.gz", 2, 60, "cd" * 32)]
    counts = count_outcomes(6, FAILURES)
    return build_manifest(make_info(2), [summary(1), summary(0)], failures, counts)


def test_a_round_trip() -> None:
    manifest = make_manifest()
    assert Manifest.from_json(manifest.to_json(), "m") == manifest
    assert manifest.rows == 6
    assert manifest.counts.images == 8
    assert list(manifest.counts.failures_by_reason) == ["empty", "truncated"]


def test_where_the_images_are_is_kept_and_may_be_missing() -> None:
    manifest = make_manifest()
    assert manifest.info.locations == ImageLocations()
    data = edited(locations={"root": "/caf\\xe9", "later": 1})
    there = Manifest.from_json(data, "m").info.locations
    assert there == ImageLocations("/caf\\xe9")
    info = replace(manifest.info, locations=there)
    moved = replace(manifest, info=info)
    assert Manifest.from_json(moved.to_json(), "m") == moved
    fields = json.loads(manifest.to_json())
    del fields["locations"]
    fields["digest"] = digest_of(fields)
    assert Manifest.from_json(json.dumps(fields).encode(), "m") == manifest


def test_the_digest_is_that_of_the_canonical_json() -> None:
    fields = json.loads(make_manifest().to_json())
    digest = fields.pop("digest")
    canonical = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_every_edit_is_found() -> None:
    data = make_manifest().to_json()
    for position in range(len(data)):
        if data[position] in b" \n":
            continue
        edited = bytearray(data)
        edited[position] ^= 1
        with pytest.raises(StorageError):
            Manifest.from_json(bytes(edited), "m")
    for length in range(len(data) - 2):
        with pytest.raises(CorruptFileError):
            Manifest.from_json(data[:length], "m")


def edited(**changes: object) -> bytes:
    fields = json.loads(make_manifest().to_json()) | changes
    fields["digest"] = digest_of(fields)
    return json.dumps(fields).encode()


def test_unknown_fields_are_ignored() -> None:
    data = edited(mood="good")
    assert Manifest.from_json(data, "m") == make_manifest()


@pytest.mark.parametrize(
    "changes",
    [
        {"snapshot": 7},
        {"model": None},
        {"model": {}},
        {"model": {"name": "m", "digest": "", "preprocessing_digest": "", "dimension": "4"}},
        {"sharding": {"hash": "md5", "num_shards": 2}},
        {"sharding": {"hash": "sha256-le64-mod", "num_shards": 3}},
        {"sharding": {"hash": "sha256-le64-mod", "num_shards": True}},
        {"embeddings": []},
        {"embeddings": "ab"},
        {"embeddings": [{"file": "../../etc/passwd"}]},
        {"failures": [{"file": "failures-/../x", "rows": 2, "bytes": 1, "sha256": ""}]},
        {"failures": [{"file": "failures-0", "rows": -2, "bytes": 1, "sha256": ""}]},
        {"counts": {"images": 1, "embedded": 2, "failed": 3, "failures_by_reason": {}}},
        {"counts": {"images": 0, "embedded": 0, "failed": 0, "failures_by_reason": []}},
        {"format": "other"},
        {"locations": {"root": None}},
        {"version": "2"},
        {"writer": 1 << 70},
    ],
)
def test_an_invalid_manifest_with_a_right_digest_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptFileError, match=r"somewhere/manifest\.json"):
        Manifest.from_json(edited(**changes), "somewhere/manifest.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"name": "m"}}, "model: Object missing required field digest"),
        ({"embeddings": [{}]}, r"embeddings\[0\]: Object missing"),
        ({"counts": {"images": -1}}, r"counts\.images: Expected int >= 0"),
        ({"counts": {"images": 1 << 63}}, r"counts\.images: Expected int <= 9223372036854775807"),
    ],
)
def test_the_wrong_field_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CorruptFileError, match=f"^m: {said}"):
        Manifest.from_json(edited(**changes), "m")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'"x"'])
def test_what_is_not_a_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptFileError):
        Manifest.from_json(data, "m")


def test_a_newer_version_is_refused_but_not_called_corrupt() -> None:
    with pytest.raises(
        StorageError, match=r"^m: its format version is 2.*update featureid"
    ) as caught:
        Manifest.from_json(edited(version=2), "m")
    assert not isinstance(caught.value, CorruptFileError)


def test_missing_and_duplicate_shards_are_refused() -> None:
    manifest = make_manifest()
    for shards in ([summary(0)], [summary(0), summary(0)], [summary(0, 3), summary(1, 3)]):
        with pytest.raises(StorageError, match="empty shards are written as well"):
            replace(manifest, embeddings=tuple(shards))


def test_counts_must_add_up() -> None:
    with pytest.raises(StorageError, match="3 images, 1 embedded, 1 failed"):
        Counts(3, 1, 1, {"x": 1})
    with pytest.raises(StorageError, match="hold 0 failures, the counts say 1"):
        build_manifest(make_info(2), [summary(0), summary(1)], [], count_outcomes(6, FAILURES[:1]))
