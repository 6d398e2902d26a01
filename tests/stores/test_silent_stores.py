"""Stores that accept a connection and then say nothing: an image waits for a bounded time."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.config import conf

from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import StorageError
from featureid.inputs import ImageRef
from featureid.models import resolve_model
from featureid.storage import files, stores
from featureid.storage.records import Failure
from featureid.storage.stores import CONNECT_S, SILENT_S

AIOHTTP = pytest.importorskip("aiohttp")


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[str, socket.socket]]:
    """The system accepts connections for it; nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}", server


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with silent_server() as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        yield address
    for name in ("s3", "gs", "http"):
        fsspec.get_filesystem_class(name).clear_instance_cache()


def short() -> Any:
    return AIOHTTP.ClientTimeout(sock_connect=0.1, sock_read=0.1)


@pytest.mark.parametrize(
    ("protocol", "uri", "configured"),
    [
        (
            "s3",
            "s3://bucket/a.jpg",
            {"config_kwargs": {"read_timeout": 0.1, "retries": {"total_max_attempts": 1}}},
        ),
        ("http", "http://{}/a.jpg?sig=SECRET", {"client_kwargs": {"timeout": short()}}),
    ],
)
def test_an_image_of_a_silent_server_becomes_a_failure(
    protocol: str,
    uri: str,
    configured: dict[str, Any],
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(conf, protocol, configured)
    embedder = Embedder(resolve_model("image"), EmbedSettings(threads=1))
    (results,) = embedder.submit([ImageRef("a.jpg", uri.format(address))]).result()
    embedder.close()
    (failure,) = results
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.reason) == ("read", "unreadable")
    assert "time-out: the store does not answer" in failure.message
    assert "SECRET" not in failure.message


def test_writing_to_a_silent_server_ends(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say whether the content may be sent, for which the client would wait for ever."""
    monkeypatch.setattr(stores, "WRITE_S", 0.1)
    with pytest.raises(StorageError, match=r"Cannot write s3://bucket/a: time-out: the store does"):
        files.write_atomic("s3://bucket/a", [b"data"])


def test_the_clients_wait_as_documented(address: str) -> None:
    s3, _ = files.filesystem("s3://bucket/a.jpg")
    s3.connect()
    config = s3.s3.meta.config
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_S, SILENT_S)
    assert config.retries["total_max_attempts"] * s3.retries**2 * SILENT_S == 240
    gs, _ = files.filesystem("gs://bucket/a.jpg")
    web, _ = files.filesystem("https://host/a.jpg")
    for timeout in (gs.requests_timeout, web.client_kwargs["timeout"]):
        assert (timeout.sock_connect, timeout.sock_read) == (CONNECT_S, SILENT_S)
        assert timeout.total is None
