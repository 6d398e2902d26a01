"""How long to wait for an object store or a web server, and how often to ask it again.

The clients' own defaults multiply: five attempts of s3fs around five of s3fs around five of
botocore, of 15 seconds each, make 31 minutes for one object of a server that is silent. With the
limits below all of them end within four minutes, and most within two. A store that answers, but is
overloaded, is asked as often, with growing pauses.
"""

from __future__ import annotations

import importlib
from typing import Any

from featureid.masking import masked_error

#: Seconds until a connection stands, and without a byte on it.
CONNECT_S, SILENT_S = 5, 15
#: Seconds that writing an object may take, and bytes per second beyond that: clients wait for leave
#: to send without a limit of their own.
WRITE_S, SLOWEST = 60.0, 50_000
#: Attempts of botocore, and of each of the two loops of s3fs around it.
_BOTOCORE_ATTEMPTS, _S3FS_ATTEMPTS = 4, 2


def open_store(kind: Any, options: dict[str, Any]) -> Any:
    """Return the fsspec file system of a class, with bounded waiting.

    What the user has configured for fsspec goes first.

    Args:
        kind: its class.
        options: its arguments.
    """
    from fsspec.config import apply_config

    configured = apply_config(kind, {})
    protocols = {kind.protocol} if isinstance(kind.protocol, str) else {*kind.protocol}
    limits: dict[str, Any] = {}
    if "s3" in protocols:
        retries = {"total_max_attempts": _BOTOCORE_ATTEMPTS}
        times = {"connect_timeout": CONNECT_S, "read_timeout": SILENT_S}
        given = configured.get("config_kwargs", {})
        limits["config_kwargs"] = {**times, "retries": retries, **given}
    elif "gs" in protocols and "requests_timeout" not in configured:
        limits["requests_timeout"] = _client_timeout()  # Six attempts, with up to 16 s between.
    elif "https" in protocols:
        limits["client_kwargs"] = {
            "timeout": _client_timeout(),
            **configured.get("client_kwargs", {}),
        }
    store = kind(**options, **limits)
    if "s3" in protocols:
        store.retries = _S3FS_ATTEMPTS
    return store


def write_object(store: Any, path: str, data: bytes) -> None:
    """Write an object with one put of a file system that :func:`open_store` has opened.

    Raises:
        TimeoutError: it took longer than :data:`WRITE_S` and :data:`SLOWEST` allow.
    """
    limits = {"timeout": WRITE_S + len(data) / SLOWEST} if store.async_impl else {}
    store.pipe_file(path, data, **limits)


def _client_timeout() -> Any:
    aiohttp = importlib.import_module("aiohttp")
    return aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=SILENT_S)


def cause_of(error: Exception, uri: str) -> str:
    """Return what a store's client says, without the secrets of the URI that it was asked for."""
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    elif type(error) is not OSError:
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    said = masked_error(said, uri)
    # Clients have their own exceptions for it, with few bases in common.
    timed_out = isinstance(error, TimeoutError) or "Timeout" in type(error).__name__
    return f"time-out: the store does not answer ({said})" if timed_out else said
