"""The Dataflow job without the service: what is submitted, and that its graph runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from featureid.cli import main as cli
from featureid.storage.reader import open_snapshot
from featureid.storage.result_reader import open_results
from tests.deploy.dataflow_check import EXAMPLES
from tests.match_samples import matched_snapshots

ROOT = Path(__file__).parents[2]
IMAGE = "europe-west1-docker.pkg.dev/example-project/images/featureid-dataflow-gpu:0.1.0"
HINTS = {
    "beam:resources:min_ram_bytes:v1": b"16000000000",
    "beam:resources:accelerator:v1": b"type:nvidia-l4;count:1;install-nvidia-driver",
}
EMBED = "EmbedImages/Embed/ParDo(_Embed)"
REQUIREMENTS = ROOT / "deploy" / "dataflow" / "requirements.txt"
LIMIT_S = 120


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every run on Dataflow; local folders stand in for buckets."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("temp", "staging"):
        (folder / name).mkdir()
    return [
        "--runner=DataflowRunner",
        "--project=example-project",
        "--region=europe-west1",
        f"--temp_location={folder / 'temp'}",
        f"--staging_location={folder / 'staging'}",
        "--no_auth",
    ]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@dataclass(frozen=True)
class Launched:
    """What the Flex Template's launcher produced: its output, the job and the graph."""

    printed: dict[str, Any]
    output: Path
    job: dict[str, Any]
    graph: beam_runner_api_pb2.Pipeline


def launch(photos: Path, folder: Path, project: list[str], *parameters: str) -> Launched:
    """Let the launcher write the job of the template's ``parameters`` instead of submitting it."""
    done = run(
        *("deploy/dataflow/launch.py", f"--input={photos}", f"--output={folder / 'ids'}"),
        *(*project, "--json", f"--template_location={folder / 'job.json'}"),
        *("--dataflow_endpoint=http://localhost:9", f"--sdk_container_image={IMAGE}"),
        *parameters,
    )
    assert done.returncode == 0, done.stderr
    return Launched(json.loads(done.stdout), folder / "ids", *read_job(folder / "job.json"))


def read_job(place: Path) -> tuple[dict[str, Any], beam_runner_api_pb2.Pipeline]:
    """Return a job and its graph, as they have been written instead of being submitted."""
    job: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    graph = beam_runner_api_pb2.Pipeline()
    proto = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
    graph.ParseFromString(Path(proto).read_bytes())
    return job, graph


def run_here(submitted: beam_runner_api_pb2.Pipeline) -> None:
    """Run a submitted graph in this process."""
    graph = beam_runner_api_pb2.Pipeline()
    graph.CopyFrom(submitted)
    for environment in graph.components.environments.values():
        environment.urn, environment.payload = "beam:env:embedded_python:v1", b""
    FnApiRunner().run_via_runner_api(graph, PipelineOptions()).wait_until_finish()


@pytest.fixture(scope="module")
def launched(
    photos: Path, project: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Launched:
    return launch(
        photos,
        tmp_path_factory.mktemp("launched"),
        project,
        *("--machine_type=g2-standard-8", "--max_num_workers=7", "--disk_size_gb=50"),
        *("--number_of_worker_harness_threads=4", "--num-shards=2", "--retry-failed=false"),
        f"--embed-hint=min_ram=16GB {EXAMPLES['embed-hint'][0]}",
    )


def test_the_launcher_neither_waits_nor_starts_the_job(launched: Launched) -> None:
    assert launched.printed["job"] is None
    assert launched.printed["folder"].startswith(f"{launched.output}/snapshots/")
    assert not (launched.output / "current").exists()


def test_the_job_has_the_requested_workers(launched: Launched) -> None:
    environment = launched.job["environment"]
    (pool,) = environment["workerPools"]
    images = pool["sdkHarnessContainerImages"]
    assert {image["containerImage"] for image in images} == {IMAGE}
    assert len(images) == 2  # with and without hints
    assert pool["machineType"] == "g2-standard-8"
    assert pool["diskSizeGb"] == 50
    assert pool["numThreadsPerWorker"] == 4
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 7
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    # Nothing is installed when a worker starts, since the image contains everything.
    assert [package["name"] for package in pool["packages"]] == [
        "submission_environment_dependencies.txt"
    ]


def test_only_the_step_that_embeds_has_hints(launched: Launched) -> None:
    components = launched.graph.components
    for transform in components.transforms.values():
        if transform.environment_id and not transform.subtransforms:
            hints = dict(components.environments[transform.environment_id].resource_hints)
            assert hints == (HINTS if transform.unique_name == EMBED else {}), transform


def test_the_job_has_the_stages_of_the_pipeline(launched: Launched) -> None:
    names = {transform.unique_name for transform in launched.graph.components.transforms.values()}
    assert {
        "ListImages/List/ParDo(_List)",
        "ListImages/GroupByPartition",
        EMBED,
        "RefreshSnapshot/GroupByShard",
        "RefreshSnapshot/WriteShards",
        "RefreshSnapshot/Finish",
    } <= names


def test_the_submitted_graph_gives_the_snapshot_of_a_local_run(
    launched: Launched, photos: Path, tmp_path: Path
) -> None:
    run_here(launched.graph)
    published = open_snapshot(str(launched.output))
    assert published.folder == launched.printed["folder"]

    assert cli.main(["embed", str(photos), "--output", str(tmp_path), "--num-shards", "2"]) == 0
    local = open_snapshot(str(tmp_path))
    assert published.row_keys() == local.row_keys()
    np.testing.assert_array_equal(published.vectors(), local.vectors())


@pytest.mark.parametrize("anyway", [False, True])
def test_a_job_with_too_many_failures_fails_and_publishes_only_if_asked_to(
    photos: Path, project: list[str], tmp_path: Path, anyway: bool
) -> None:
    shutil.copytree(photos / "small", tmp_path / "pictures")
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"no picture")
    options = ["--max-failure-rate=0.1", *["--publish-anyway"] * anyway]
    launched = launch(tmp_path / "pictures", tmp_path, project, *options)
    with pytest.raises(Exception, match="1 of the 7 images failed"):
        run_here(launched.graph)
    assert (launched.output / "current").exists() == anyway


@pytest.mark.parametrize(
    ("pipeline", "command", "inputs", "rows"),
    [
        ("match", "match", ["--gallery={large}", "--query={small}", "-k3"], 120),
        ("duplicates", "group", ["--input={large}", "--threshold=0.99"], 60),
    ],
)
def test_the_graph_for_snapshots_gives_the_result_of_a_local_run(
    project: list[str], tmp_path: Path, pipeline: str, command: str, inputs: list[str], rows: int
) -> None:
    folders = matched_snapshots(tmp_path)
    options = [option.format(**folders) for option in inputs]
    done = run(
        *("-m", f"pipelines.{pipeline}", *options, f"--output={tmp_path / 'found'}", "--no-wait"),
        *(*project, "--json", f"--template_location={tmp_path / 'job.json'}"),
        *("--dataflow_endpoint=http://localhost:9", f"--sdk_container_image={IMAGE}"),
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "found" / "current").exists()
    _, graph = read_job(tmp_path / "job.json")
    run_here(graph)
    found = open_results(tmp_path / "found")
    assert found.folder == json.loads(done.stdout)["folder"]

    assert cli.main([command, *options, "--output", str(tmp_path / "here")]) == 0
    here = open_results(tmp_path / "here")
    assert len(found) >= rows and list(found) == list(here)


@contextmanager
def service(status: int, answer: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a fake of Dataflow's REST API; give its address and the jobs that it receives."""
    jobs: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path.startswith(
                "/v1b3/projects/example-project/locations/europe-west1/jobs"
            )
            jobs.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            """Do not log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}", jobs
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def submit(address: str, photos: Path, project: list[str], output: Path) -> Any:
    return run(
        *("-m", "pipelines.embed", f"--input={photos}", f"--output={output}", "--no-wait"),
        *(*project, "--json", f"--dataflow_endpoint={address}", f"--sdk_container_image={IMAGE}"),
    )


def test_a_job_is_submitted_and_named(photos: Path, project: list[str], tmp_path: Path) -> None:
    job_id = "2026-11-23_05_42_31-1234567890"
    with service(200, {"id": job_id, "projectId": "example-project"}) as (address, jobs):
        done = submit(address, photos, project, tmp_path / "ids")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["job"] == job_id
    (job,) = jobs
    (pool,) = job["environment"]["workerPools"]
    assert pool["sdkHarnessContainerImages"][0]["containerImage"] == IMAGE
    # The model is where workers look for it.
    assert len(list((tmp_path / "ids" / "models").glob("image-*.fidmodel"))) == 1


def test_a_refused_job_gives_a_one_line_error(
    photos: Path, project: list[str], tmp_path: Path
) -> None:
    error = {"code": 403, "message": "no permission to start jobs", "status": "PERMISSION_DENIED"}
    with service(403, {"error": error}) as (address, jobs):
        done = submit(address, photos, project, tmp_path / "ids")
    assert len(jobs) == 1
    # Before this line Beam logs the server's answer.
    *logged, line = done.stderr.splitlines()
    assert done.returncode == 1 and len(logged) <= 1, done.stderr
    assert "could not be submitted" in line and "no permission to start" in line


def test_without_an_image_the_job_brings_featureid_along(
    photos: Path, project: list[str], tmp_path: Path
) -> None:
    """What Dataflow's own image then does is run for real by tests/flink/test_setup_file.py."""
    done = run(
        *("-m", "featureid", "embed", photos, f"--output={tmp_path / 'ids'}", "--no-wait"),
        *(*project, f"--template_location={tmp_path / 'job.json'}"),
        *("--dataflow_endpoint=http://localhost:9", f"--setup_file={ROOT / 'setup.py'}"),
        *(f"--requirements_file={REQUIREMENTS}", "--requirements_cache=skip"),
    )
    assert done.returncode == 0, done.stderr
    job = json.loads((tmp_path / "job.json").read_text(encoding="utf-8"))
    (pool,) = job["environment"]["workerPools"]
    places = {package["name"]: package["location"] for package in pool["packages"]}
    assert set(places) == {
        "requirements.txt",
        "submission_environment_dependencies.txt",
        "workflow.tar.gz",
    }
    images = [image["containerImage"] for image in pool["sdkHarnessContainerImages"]]
    assert all(f"/beam_python3.{sys.version_info.minor}_sdk:" in image for image in images)
    with tarfile.open(places["workflow.tar.gz"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "setup.py", "featureid/transforms/__init__.py"} <= names
    assert Path(places["requirements.txt"]).read_bytes() == REQUIREMENTS.read_bytes()
