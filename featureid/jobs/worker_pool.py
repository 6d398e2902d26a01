"""Start worker processes on request of a runner: what ``featureid worker-pool`` serves.

The other side of ``--environment_type=EXTERNAL``, for Flink without Docker: one pool runs beside
each TaskManager, in the Python environment that has featureid. Unlike Beam's own pool it

- lets workers print: Beam's pool gives them a pipe that nobody reads, and a worker that has filled
  it hangs (https://github.com/apache/beam/issues/21589);
- passes the options of the run to the worker, which sets up its file systems, log levels and
  pickler from them; Beam's pool does so only with a custom script;
- distinguishes the workers of several runners, so that TaskManagers of one machine can share it;
- listens on this machine only, by default: whoever can connect to it can run code;
- runs as root only if told to, and if it has a token, starts workers only for who sends it.

A runner sends the token as a parameter of its environment, as Beam's protocol has it for starting
a worker; for stopping one it has no such thing.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format

from featureid.errors import UsageError

_LOG = logging.getLogger(__name__)
#: The environment variable with the token, of a pool and of the command that submits a run.
TOKEN_VARIABLE = "FEATUREID_POOL_TOKEN"
#: The parameter of a request for a worker that carries it.
TOKEN_PARAMETER = "token"
_WORKER = "apache_beam.runners.worker.sdk_worker_main"
#: Of the run's options, what its workers do not need, and would log: the token is in it.
_OPTION_WITH_TOKEN = "beam:option:environment_config:v1"
_PROVISION_LIMIT_S = 60
_STOP_LIMIT_S = 10
_POLL_S = 0.05
_MAX_PORT = 65_535
_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]", "::1")


class WorkerPool:
    """The service that a runner calls to start and stop worker processes on this machine.

    Args:
        token: what requests for workers have to carry; "" for nothing.
    """

    def __init__(self, token: str = "") -> None:
        self._token = token
        self._lock = threading.Lock()
        # Several per name: runners that share this pool, such as two TaskManagers, use the same
        # names for their workers.
        self._workers: defaultdict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)

    def StartWorker(
        self, request: beam_fn_api_pb2.StartWorkerRequest, _context: object
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Start a worker process for the runner that asks, if it has the token."""
        sent = request.params.get(TOKEN_PARAMETER, "")
        if self._token and not hmac.compare_digest(sent.encode(), self._token.encode()):
            return beam_fn_api_pb2.StartWorkerResponse(
                error="the worker pool starts workers only for runs that have its token; set "
                f"{TOKEN_VARIABLE} to it where the run is submitted"
            )
        try:
            environment = {**os.environ, **worker_environment(request)}
            environment.pop(TOKEN_VARIABLE, None)
            # Its output goes to this process's log: standard error, never to a pipe.
            worker = subprocess.Popen(
                [sys.executable, "-m", _WORKER], env=environment, stdout=sys.stderr
            )
        except (OSError, grpc.RpcError) as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"cannot start a worker: {error}")
        with self._lock:
            self._workers[request.worker_id].append(worker)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(
        self, request: beam_fn_api_pb2.StopWorkerRequest, _context: object
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Stop a worker process; an unknown one is not an error, since it may have ended.

        Of several with that name, the one that ends by itself is meant, since a runner first closes
        the connection of its worker. If none ends, all keep running.
        """
        deadline = time.monotonic() + _STOP_LIMIT_S
        while (found := self._take(request.worker_id)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        _stop(found or [])
        return beam_fn_api_pb2.StopWorkerResponse()

    def _take(self, worker_id: str) -> list[subprocess.Popen[bytes]] | None:
        """Remove and return the worker of that name, if any; None if it is not clear which one."""
        with self._lock:
            workers = self._workers[worker_id]
            ended = [worker for worker in workers if worker.poll() is not None]
            if not ended and len(workers) > 1:
                return None
            meant = (ended or workers)[:1]
            self._workers[worker_id] = [worker for worker in workers if worker not in meant]
            return meant

    def close(self) -> None:
        """Stop all workers."""
        with self._lock:
            workers = [worker for alike in self._workers.values() for worker in alike]
            self._workers.clear()
        _stop(workers)


def worker_environment(request: beam_fn_api_pb2.StartWorkerRequest) -> dict[str, str]:
    """Return the environment variables of a Beam worker, from the runner's provision service.

    Raises:
        grpc.RpcError: the runner does not answer.
    """
    with grpc.insecure_channel(request.provision_endpoint.url) as channel:
        provisions = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = provisions.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=[("worker_id", request.worker_id)],
            timeout=_PROVISION_LIMIT_S,
        ).info
    options = json_format.MessageToDict(info.pipeline_options)
    options.pop(_OPTION_WITH_TOKEN, None)
    environment = {
        "WORKER_ID": request.worker_id,
        "PIPELINE_OPTIONS": json.dumps(options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _endpoint(request.control_endpoint),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if request.logging_endpoint.url:
        environment["LOGGING_API_SERVICE_DESCRIPTOR"] = _endpoint(request.logging_endpoint)
    if info.status_endpoint.url:
        environment["STATUS_API_SERVICE_DESCRIPTOR"] = _endpoint(info.status_endpoint)
    return environment


def _endpoint(endpoint: endpoints_pb2.ApiServiceDescriptor) -> str:
    text: str = text_format.MessageToString(endpoint)
    return text


def _stop(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def serve(host: str, port: int, allow_root: bool = False) -> None:
    """Serve until interrupted or terminated, then stop all workers.

    Args:
        host: name or address to listen on.
        port: 0 means a free one; the line on standard output names it.
        allow_root: whether root may serve.

    Raises:
        UsageError: the address is not available, or the process is root's.
    """
    if os.geteuid() == 0 and not allow_root:
        raise UsageError(
            "a worker pool runs any code that it is sent, so it does not run as root; start it as "
            "another user, or give `allow_root`"
        )
    token = os.environ.get(TOKEN_VARIABLE, "")
    if host not in _THIS_MACHINE and not token:
        _LOG.warning(
            "whoever reaches %s can run code here; set %s, here and where runs are submitted, or "
            "listen on localhost",
            host,
            TOKEN_VARIABLE,
        )
    pool = WorkerPool(token)
    server, port = _listen(pool, host, port)
    # Before the line below, so that whoever waits for it may end the pool with a signal.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        print(f"workers are started on request at {host}:{port}", flush=True)
        server.wait_for_termination()
    finally:
        server.stop(grace=None)
        pool.close()


def _listen(pool: WorkerPool, host: str, port: int) -> tuple[grpc.Server, int]:
    if not 0 <= port <= _MAX_PORT:
        raise UsageError(f"`port` is {port}; give 0 (any free one) to {_MAX_PORT}")
    address = f"{host}:{port}"
    # Not shared: a second pool on the port would silently take half of the requests.
    server = grpc.server(ThreadPoolExecutor(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise UsageError(
            f"cannot listen on {address}: is it a name of this machine, and the port free?"
        ) from error
    server.start()
    return server, port


def _terminate(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)
