"""Workers that have only Beam install featureid: ``--setup_file``, as in Beam's own images."""

import os
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest

from tests.flink import runs
from tests.flink.conftest import free_port, needed
from tests.processes import ROOT, running


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an environment like that of Beam's images, which have setuptools 84."""
    venv.create(tmp_path / "worker", with_pip=True)
    python = tmp_path / "worker" / "bin" / "python"
    packages = [f"apache-beam=={beam.__version__}", "setuptools>=77", "wheel"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    assert not has_featureid(python)
    return python


def has_featureid(python: Path) -> bool:
    command = [str(python), "-I", "-c", "import featureid, onnxruntime"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def options(python: Path, tmp_path: Path) -> Iterator[list[str]]:
    """Options for Beam's own job service and worker pool, whose workers Beam's boot sets up."""
    boot = tmp_path / "boot"
    command = [str(needed("BOOT")), f"--semi_persist_dir={tmp_path}"]
    boot.write_text(
        f'#!/bin/sh\ncd {tmp_path} && exec {shlex.join(command)} "$@" >>{tmp_path}/boot.log 2>&1\n'
    )
    boot.chmod(0o755)
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        # Not into an environment below /opt/apache/beam, as in a container.
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        "FEATUREID_CACHE": str(tmp_path / "no cache"),
    }
    port = free_port()
    pool = [
        *(str(python), "-m", "apache_beam.runners.worker.worker_pool_main"),
        *(f"--service_port={port}", f"--container_executable={boot}"),
    ]
    service = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    with (
        running(pool, "Started worker pool", tmp_path / "pool.log", environment),
        running(service, "on port ", tmp_path / "service.log") as (_, line),
    ):
        yield [
            *("--runner=PortableRunner", "--environment_type=EXTERNAL"),
            f"--job_endpoint=localhost:{line.rsplit(' ', 1)[1].rstrip('.')}",
            f"--environment_config=localhost:{port}",
        ]


def test_workers_install_featureid_and_give_the_same_snapshot(
    photos: Path, python: Path, options: list[str], tmp_path: Path
) -> None:
    here = runs.embed(photos, tmp_path / "here", [])
    elsewhere = runs.embed(
        photos, tmp_path / "elsewhere", [*options, f"--setup_file={ROOT / 'setup.py'}"]
    )
    runs.check_same(here, elsewhere)
    assert has_featureid(python)
    assert not (tmp_path / "no cache").exists()
