"""Input and output in object stores: a real S3 server (moto) and a real GCS one (the emulator)."""

import http.server
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from gcp_storage_emulator.server import create_server
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import featureid
from featureid.storage.verify import verify_snapshot
from pipelines import cli

BUCKET = "photos"


@dataclass
class S3:
    """A running S3 server that counts requests and can refuse some of them."""

    endpoint: str = ""
    requests: Counter[str] = field(default_factory=Counter)
    refuse: Callable[[str, str], bool] = lambda method, path: False

    def middleware(self, app: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.requests[f"{method} {path}"] += 1
            if self.refuse(method, path):
                start_response("503 Slow Down", [("Content-Type", "text/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>later</Message></Error>"]
            return app(environ, start_response)

        return answer


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3]:
    s3 = S3()
    app = s3.middleware(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    s3.endpoint = f"http://127.0.0.1:{server.port}"
    yield s3
    server.shutdown()
    thread.join()


@pytest.fixture
def s3(s3_server: S3, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The S3 server with a bucket of six photos below ``s3://photos/in``."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for photo in (photos / "small").iterdir():
        client.upload_file(str(photo), BUCKET, f"in/{photo.name}")
    s3_server.requests.clear()
    yield s3_server
    s3_server.refuse = lambda method, path: False
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": o["Key"]} for o in listed]})
    client.delete_bucket(Bucket=BUCKET)
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def gs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GCS server with a bucket of six photos below ``gs://photos/in``."""
    # One request at a time would wait for ever for a client that keeps its connection open.
    monkeypatch.setattr(http.server, "HTTPServer", http.server.ThreadingHTTPServer)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    port = server._api._httpd.server_address[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    # Asks Google itself what kind of bucket it is, emulator or not.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    store = fsspec.filesystem("gs", token="anon")
    for photo in (photos / "small").iterdir():
        store.pipe_file(f"{BUCKET}/in/{photo.name}", photo.read_bytes())
    store.clear_instance_cache()
    yield
    fsspec.filesystem("gs").clear_instance_cache()
    server.stop()


def embed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    status = cli.main(["embed", *argv, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    summary: dict[str, Any] = json.loads(captured.out)
    return summary


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
    (key,) = [key for key in snapshot.keys() if key.endswith("/coffee.jpg")]
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
    versions = featureid.open_snapshot("s3://photos/out").attributes("source_version")
    assert all(str(version).startswith("etag:") for version in versions)


def test_an_image_takes_one_request(s3: S3, capsys: pytest.CaptureFixture[str]) -> None:
    embed(capsys, "s3://photos/in", "--output", "s3://photos/out")
    for method in ("GET", "HEAD"):
        images = [s3.requests[f"{method} /photos/in/{name}.jpg"] for name in ("coffee", "rocket")]
        assert images == ([1, 1] if method == "GET" else [0, 0])


def test_gs_in_and_out(gs: None, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(capsys, "gs://photos/in", "--output", "gs://photos/out")["embedded"] == 6
    check_snapshot("gs://photos/out", photos)
    versions = featureid.open_snapshot("gs://photos/out").attributes("source_version")
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
    line = refused(capsys, "s3://photos/in", "--output", "s3://photos/out")
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
