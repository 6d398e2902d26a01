"""Input and output in object stores."""

from pathlib import Path

import boto3
import fsspec
import pytest

import featureid
from featureid.cli import main as cli
from featureid.storage.verify import verify_snapshot
from tests.stores.servers import BUCKET, S3, embed


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert cli.main(["embed", *argv]) == 1
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("featureid: ")]
    assert "Traceback" not in err
    return line


def check_snapshot(output: str, photos: Path) -> None:
    assert verify_snapshot(output).ok
    snapshot = featureid.open_snapshot(output)
    assert len(snapshot) == 6
    (key,) = [key for key in snapshot if key.endswith("/coffee.jpg")]
    expected = featureid.generate_feature_id(photos / "small" / "coffee.jpg")
    assert (snapshot[key] == expected).all()


def test_s3_in_and_out(s3: S3, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(capsys, "s3://photos/in", "--output", "s3://photos/out")["embedded"] == 6
    check_snapshot("s3://photos/out", photos)
    client = boto3.client("s3")
    for entry in client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]:
        assert "ContentEncoding" not in client.head_object(Bucket=BUCKET, Key=entry["Key"])
    assert cli.main(["verify", "s3://photos/out"]) == 0
    assert cli.main(["inspect", "s3://photos/out"]) == 0
    versions = featureid.open_snapshot("s3://photos/out").column("source_version")
    assert all(str(version).startswith("etag:") for version in versions)


def test_an_image_takes_one_request(s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    embed(capsys, "s3://photos/in", "--output", "s3://photos/out")
    for method in ("GET", "HEAD"):
        images = [s3.requests[f"{method} /photos/in/{name}.jpg"] for name in ("coffee", "rocket")]
        assert images == ([1, 1] if method == "GET" else [0, 0])


def test_gs_in_and_out(gs: None, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(capsys, "gs://photos/in", "--output", "gs://photos/out")["embedded"] == 6
    check_snapshot("gs://photos/out", photos)
    versions = featureid.open_snapshot("gs://photos/out").column("source_version")
    assert all(str(version).startswith("generation:") for version in versions)
    store = fsspec.filesystem("gs")
    for path in store.find(f"{BUCKET}/out"):
        assert not store.info(path).get("contentEncoding")


def test_a_store_that_is_slow_for_a_moment_is_asked_again(
    s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every first request for an image and for a file of the snapshot is refused.
    s3.refuse = lambda method, path: (
        method in ("GET", "PUT") and "." in path and s3.requests[f"{method} {path}"] == 1
    )
    summary = embed(capsys, "s3://photos/in", "--output", "s3://photos/out")
    assert (summary["embedded"], summary["failed"]) == (6, 0)
    assert s3.requests["GET /photos/in/coffee.jpg"] == 2


def test_an_image_that_cannot_be_fetched_is_a_failure(
    s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3.refuse = lambda method, path: path.endswith("coffee.jpg")
    summary = embed(capsys, "s3://photos/in", "--output", "s3://photos/out")
    assert summary["failures_by_reason"] == {"unreadable": 1}


def test_nothing_is_published_where_the_store_refuses_a_shard(
    s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    embed(capsys, "s3://photos/in", "--output", "s3://photos/out")
    before = featureid.open_snapshot("s3://photos/out").folder
    s3.refuse = lambda method, path: method == "PUT" and "embeddings-" in path
    line = refused(capsys, "s3://photos/in", "--output", "s3://photos/out", "--re-embed")
    assert "Cannot write s3://photos/out/snapshots/" in line
    assert featureid.open_snapshot("s3://photos/out").folder == before


def test_a_missing_bucket_is_told_at_once(s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "s3://photos/in", "--output", "s3://nowhere/out")
    assert "s3://nowhere/out" in line
    assert s3.requests["GET /photos/in/coffee.jpg"] == 0
    assert "s3://nowhere/in" in refused(capsys, "s3://nowhere/in", "--output", "s3://photos/out")


def test_missing_credentials_are_named(
    s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.filesystem("s3").clear_instance_cache()
    line = refused(capsys, "s3://photos/in", "--output", "s3://photos/out")
    assert "credentials" in line and "s3://photos/in" in line


ODD_NAMES = ("br[1].jpg", "a::b.jpg", "a*.jpg", "what?.jpg", "#1 100%25.jpg", "a b+c.jpg")


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> str:
    request.getfixturevalue(request.param)
    return str(request.param)


def test_the_name_of_an_object_is_taken_as_it_is(
    scheme: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = fsspec.filesystem(scheme)
    right, wrong = (photos / "small" / f"{name}.jpg" for name in ("coffee", "rocket"))
    for name in ("br1.jpg", "b.jpg", "ab.jpg", "what1.jpg", "x[1]/br1.jpg", "x1/br1.jpg"):
        store.pipe_file(f"{BUCKET}/odd/{name}", wrong.read_bytes())
    for name in ODD_NAMES:
        store.pipe_file(f"{BUCKET}/odd/{name}", right.read_bytes())
    store.invalidate_cache()
    uris = [f"{scheme}://{BUCKET}/odd/{name}" for name in ODD_NAMES]
    (tmp_path / "list.txt").write_text("\n".join(uris))
    expected = featureid.generate_feature_id(right)
    for inputs in (uris, ["--manifest", str(tmp_path / "list.txt")]):
        embed(capsys, *inputs, "--output", str(tmp_path / "out"))
        snapshot = featureid.open_snapshot(tmp_path / "out")
        assert set(snapshot) == set(uris)
        assert all((vector == expected).all() for vector in snapshot.values())
    for uri in uris:
        assert (featureid.generate_feature_id(uri) == expected).all()
    folder = f"{scheme}://{BUCKET}/odd/x[1]"
    assert embed(capsys, folder, "--output", f"{folder}/out")["embedded"] == 1
    embed(capsys, folder, "--output", f"{folder}/out")
    assert cli.main(["prune", f"{folder}/out", "--keep=1"]) == 0
    assert verify_snapshot(f"{folder}/out").ok


def test_vectors_go_out_and_come_back(
    scheme: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = f"{scheme}://{BUCKET}"
    embed(capsys, f"{place}/in", "--output", f"{place}/out")
    for number, kind in enumerate(("parquet", "npy")):
        file = f"{place}/x[{number}].{kind}"
        assert cli.main(["export", f"{place}/out", "--to", kind, file]) == 0
        name = [] if kind == "parquet" else ["--model=m"]
        assert cli.main(["import", file, "--output", f"{place}/{kind}", *name]) == 0
    capsys.readouterr()
    assert cli.main(["diff", f"{place}/out", f"{place}/parquet"]) == 0
    said = capsys.readouterr().out
    assert "6 with the same image (compared by SHA-256)" in said
    assert "6 of 6 shared vectors are equal bit for bit" in said
    (tmp_path / "keys.txt").write_text("twice\n" * 6)
    argv = ["--output", f"{place}/bad", "--model=m", "--keys", str(tmp_path / "keys.txt")]
    assert cli.main(["import", file, *argv]) == 1
    assert "rows 0 and 1 (from 0) have the same key, 'twice'" in capsys.readouterr().err
    fsspec.filesystem(scheme).invalidate_cache()
    assert not fsspec.filesystem(scheme).exists(f"{BUCKET}/bad")
