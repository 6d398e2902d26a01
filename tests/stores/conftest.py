"""Object stores on this machine: a real S3 server (moto) and a real GCS one (the emulator)."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from gcp_storage_emulator.server import create_server
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from tests.stores.servers import BUCKET, S3


@pytest.fixture(scope="session")
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
