"""A real Flink cluster on this machine, without Docker; see the Makefile for what it needs."""

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Pool, running, running_pool, wait_until

TASK_MANAGERS = 2
# So that a lost TaskManager is noticed in seconds, and a batch job is tried again.
SETTINGS = {
    "heartbeat.interval": "2000",
    "heartbeat.timeout": "30000",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "2",
    "restart-strategy.fixed-delay.delay": "1s",
    "taskmanager.numberOfTaskSlots": "1",
    # Flink wants 16 MB of network memory for each exchange by default, and a run has some twenty.
    "taskmanager.network.sort-shuffle.min-buffers": "64",
}


def needed(variable: str) -> Path:
    """The file or folder that an environment variable names."""
    value = os.environ.get(variable, "")
    assert value and Path(value).exists(), f"${variable} is {value!r}; run make flink-test"
    return Path(value).resolve()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """A running JobManager, and TaskManagers that a test may kill."""

    def __init__(self, home: Path, logs: Path, stack: contextlib.ExitStack) -> None:
        self._home, self._logs, self._stack = home, logs, stack
        self._rest_port = free_port()
        self._ports = {
            "rest.port": str(self._rest_port),
            "rest.bind-port": str(self._rest_port),
            "jobmanager.rpc.port": str(free_port()),
        }
        self.task_managers: list[subprocess.Popen[str]] = []
        self._start("jobmanager.sh", "Rest endpoint listening at")
        self.replace_lost_task_managers()

    @property
    def address(self) -> str:
        return f"localhost:{self._rest_port}"

    @property
    def version(self) -> str:
        """Such as ``1.20``, as Beam wants to know it."""
        major, minor, _ = self.ask("/v1/overview")["flink-version"].split(".")
        return f"{major}.{minor}"

    def kill_a_task_manager(self) -> None:
        self.task_managers[0].kill()
        self.task_managers[0].wait()

    def replace_lost_task_managers(self) -> None:
        """Have as many TaskManagers as there should be, and wait for all to be known."""
        self.task_managers = [p for p in self.task_managers if p.poll() is None]
        while len(self.task_managers) < TASK_MANAGERS:
            process = self._start("taskmanager.sh", "Successful registration at resource manager")
            self.task_managers.append(process)
        wait_until(lambda: self.ask("/v1/overview")["taskmanagers"] == TASK_MANAGERS)

    def ask(self, path: str, method: str = "GET") -> Any:
        """What the cluster's REST endpoint answers."""
        request = urllib.request.Request(f"http://{self.address}{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def jobs(self, status: str) -> list[str]:
        """The ids of the jobs in a state such as ``RUNNING``."""
        return [job["id"] for job in self.ask("/v1/jobs")["jobs"] if job["status"] == status]

    def _start(self, script: str, ready: str) -> subprocess.Popen[str]:
        settings = {**SETTINGS, **self._ports}
        options = [part for item in settings.items() for part in ("-D", "=".join(item))]
        log = self._logs / f"{script}-{time.monotonic_ns()}.log"
        process, _ = self._stack.enter_context(
            running(
                [str(self._home / "bin" / script), "start-foreground", *options],
                ready,
                log,
                {"FLINK_LOG_DIR": str(self._logs), "FLINK_PID_DIR": str(self._logs)},
            )
        )
        return process


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with contextlib.ExitStack() as stack:
        yield Cluster(needed("FLINK_HOME"), tmp_path_factory.mktemp("flink"), stack)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """One pool for both TaskManagers; its workers have no model of their own."""
    folder = tmp_path_factory.mktemp("pool")
    with running_pool(folder / "log", {"FEATUREID_CACHE": str(folder / "cache")}) as pool:
        yield pool


@pytest.fixture(scope="session")
def job_server_jar() -> Path:
    return needed("FLINK_JOB_SERVER_JAR")


@pytest.fixture(scope="session")
def flink_options(job_server_jar: Path, cluster: Cluster) -> list[str]:
    return [
        "--runner=FlinkRunner",
        f"--flink_version={cluster.version}",
        f"--flink_master={cluster.address}",
        f"--flink_job_server_jar={job_server_jar}",
        f"--parallelism={TASK_MANAGERS}",
    ]


@pytest.fixture(scope="session")
def prism_options() -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={needed('PRISM')}"]


@pytest.fixture
def whole_cluster(cluster: Cluster) -> Cluster:
    """The cluster with all its TaskManagers, whatever the test before has done to it."""
    cluster.replace_lost_task_managers()
    return cluster
