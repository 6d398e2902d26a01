"""Our worker pool, serving Beam's own job service: a run whose workers are elsewhere."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import grpc
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.runner import PipelineState

import featureid
from featureid.cli import main as cli
from featureid.errors import UsageError
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.worker_pool import TOKEN_VARIABLE, WorkerPool, serve
from featureid.storage.verify import verify_snapshot
from tests.processes import ROOT, Pool, children, running, running_pool, wait_until, with_model

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="finds worker processes as Linux shows them"
)
WORKER = "sdk_worker_main"
LIMIT_S = 120
TOKEN = "t0ken-of-the-pool"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A pool whose workers have no model of their own."""
    folder = tmp_path_factory.mktemp("pool")
    cache = folder / "cache"
    environment = {"FEATUREID_CACHE": str(cache), TOKEN_VARIABLE: TOKEN}
    with running_pool(folder / "log", environment) as pool:
        yield pool
        workers = children(pool.process.pid, WORKER)
    assert pool.process.returncode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not cache.exists(), "a worker has built a model"


@contextlib.contextmanager
def job_service(pool: Pool, log: Path) -> Iterator[list[str]]:
    """Options for a run by Beam's own job service, its workers started by the pool."""
    module = "apache_beam.runners.portability.local_job_service_main"
    with running([sys.executable, "-m", module], "on port ", log) as (_, line):
        port = line.rsplit(" ", 1)[1].rstrip(".")
        config = json.dumps({"url": pool.address, "params": {"token": TOKEN}})
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{port}",
            "--environment_type=EXTERNAL",
            f"--environment_config={config}",
        ]


@pytest.fixture(scope="module")
def runner_options(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with job_service(pool, tmp_path_factory.mktemp("job_service") / "log") as options:
        yield options


def test_workers_elsewhere_give_the_same_rows_with_the_model_from_the_output_folder(
    photos: Path, tmp_path: Path, runner_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [tmp_path / "here", tmp_path / "elsewhere"]
    for output, options in zip(outputs, [[], runner_options], strict=True):
        arguments = ["embed", str(photos), "--output", str(output), "--num-shards=3", *options]
        assert cli.main(arguments) == 0, capsys.readouterr().err
    here, elsewhere = (featureid.open_snapshot(str(output)) for output in outputs)
    assert here.row_keys() == elsewhere.row_keys()
    assert [s.rows for s in here.manifest.embeddings] == [
        s.rows for s in elsewhere.manifest.embeddings
    ]
    np.testing.assert_array_equal(here.vectors(), elsewhere.vectors())
    assert not (outputs[0] / "models").exists()
    (model,) = (outputs[1] / "models").iterdir()
    assert featureid.generate_feature_id(photos / "coffee.png", model=str(model)).shape == (128,)
    assert verify_snapshot(str(outputs[1])).ok


def print_and_tell_the_region(_: object) -> str:
    print("x" * 200_000)
    assert TOKEN not in str(os.environ), "user code could start workers elsewhere"
    from apache_beam.io.filesystems import FileSystems

    region: str = FileSystems._pipeline_options.get_all_options()["s3_region_name"]
    return region


def test_user_code_may_print_and_file_systems_have_their_options(
    tmp_path: Path, runner_options: list[str]
) -> None:
    """With Beam's own pool the first hangs after 64 KiB, the size of a pipe; the second is None."""
    found = tmp_path / "found"
    pipeline = beam.Pipeline(options=PipelineOptions([*runner_options, "--s3_region_name=here"]))
    _ = (
        pipeline
        | beam.Create([None])
        | beam.Map(print_and_tell_the_region)
        | beam.Map(lambda region: found.write_text(region))
    )
    pipeline.run().wait_until_finish(LIMIT_S * 1000)
    assert found.read_text() == "here"


def test_workers_have_imported_the_steps_before_their_threads_begin(
    tmp_path: Path, runner_options: list[str]
) -> None:
    """Threads that import parts of one package at once deadlock: several begin on Flink."""
    found = tmp_path / "found"
    options, rest = split_beam_options(runner_options)
    assert not rest
    pipeline = beam.Pipeline(options=options)
    _ = (
        pipeline
        | beam.Create(["featureid.transforms"])
        | beam.Map(lambda name: name in sys.modules)
        | beam.Map(lambda known: found.write_text(str(known)))
    )
    pipeline.run().wait_until_finish(LIMIT_S * 1000)
    assert found.read_text() == "True"


def test_the_end_of_a_worker_is_not_that_of_another_runners_worker_with_the_same_number(
    tmp_path: Path, pool: Pool
) -> None:
    """Two TaskManagers with one pool: their workers have the same names."""
    may_end = [tmp_path / "first", tmp_path / "second"]
    with contextlib.ExitStack() as stack:
        runs = []
        for number, mark in enumerate(may_end):
            options = stack.enter_context(job_service(pool, tmp_path / f"{number}.log"))
            pipeline = beam.Pipeline(options=PipelineOptions(options))
            _ = (
                pipeline
                | beam.Create([mark])
                | beam.Map(lambda mark: wait_until(mark.exists, LIMIT_S))
            )
            runs.append(pipeline.run())
            workers = wait_until_running(pool, number + 1)
        (name,) = {name_of(worker) for worker in workers}
        may_end[0].touch()
        runs[0].wait_until_finish(LIMIT_S * 1000)
        with grpc.insecure_channel(pool.address) as channel:
            request = beam_fn_api_pb2.StopWorkerRequest(worker_id=name)
            beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel).StopWorker(request)
        may_end[1].touch()
        assert runs[1].wait_until_finish(LIMIT_S * 1000) == PipelineState.DONE


def wait_until_running(pool: Pool, count: int) -> list[int]:
    """The pool's workers, once there are so many."""
    wait_until(lambda: len(children(pool.process.pid, WORKER)) == count)
    return children(pool.process.pid, WORKER)


def name_of(worker: int) -> str:
    variables = Path(f"/proc/{worker}/environ").read_text(encoding="utf-8").split("\0")
    return dict(variable.split("=", 1) for variable in variables if variable)["WORKER_ID"]


@pytest.fixture
def many(photos: Path, tmp_path: Path) -> Path:
    """So many pictures that there is time to end a worker while it embeds them."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(400):
        os.link(photos / "small" / "coffee.jpg", folder / f"{i:03d}.jpg")
    return folder


def test_a_worker_that_is_killed_publishes_nothing_and_the_next_run_succeeds(
    photos: Path, many: Path, tmp_path: Path, pool: Pool, runner_options: list[str]
) -> None:
    def workers() -> set[int]:
        return with_model(children(pool.process.pid, WORKER))

    output, before = tmp_path / "out", workers()
    command = [sys.executable, "-m", "pipelines.embed", f"--output={output}", *runner_options]
    run = subprocess.Popen(
        [*command, f"--input={many}", "--threads=1"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: bool(workers() - before) or run.poll() is not None)
        (worker,) = children(pool.process.pid, WORKER)
        os.kill(worker, signal.SIGKILL)
        _, errors = run.communicate(timeout=LIMIT_S)
    finally:
        run.kill()
    assert run.returncode == 1
    assert errors.splitlines()[-1].startswith("featureid: the run failed: ")
    assert "Traceback (most" not in errors.replace(errors.splitlines()[-1], "")
    assert not (output / "current").exists() and not list(output.rglob("manifest.json"))

    arguments = ["embed", str(photos), "--output", str(output), *runner_options]
    assert cli.main(arguments) == 0
    assert len(featureid.open_snapshot(str(output))) == 13


def test_a_runner_that_does_not_answer_is_told(pool: Pool) -> None:
    with grpc.insecure_channel(pool.address) as channel:
        workers = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id="nobody")
        request.provision_endpoint.url = "localhost:1"
        request.params["token"] = TOKEN
        assert "cannot start a worker" in workers.StartWorker(request, timeout=LIMIT_S).error
        stop = beam_fn_api_pb2.StopWorkerRequest(worker_id="nobody")
        assert workers.StopWorker(stop, timeout=LIMIT_S).error == ""


def test_a_port_in_use_is_refused(pool: Pool) -> None:
    port = pool.address.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "featureid", "worker-pool", "--allow-root", "--port", port]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("featureid: cannot listen on localhost:")


@pytest.mark.parametrize("sent", [{}, {"token": "wrong"}, {"token": "t0ken"}, {"other": TOKEN}])
def test_a_worker_is_started_only_for_who_has_the_token(sent: dict[str, str]) -> None:
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id="nobody", params=sent)
    request.provision_endpoint.url = "localhost:1"
    error = WorkerPool(TOKEN).StartWorker(request, None).error
    assert "only for runs that have its token; set FEATUREID_POOL_TOKEN" in error
    assert TOKEN not in error


def test_root_serves_only_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError, match=r"does not run as root; .* or give `allow_root`"):
        serve("localhost", 0)
    with pytest.raises(UsageError, match="`port` is 99999"):
        serve("localhost", 99_999, allow_root=True)


@pytest.mark.parametrize(
    ("host", "token", "warned"),
    [("0.0.0.0", "", True), ("0.0.0.0", TOKEN, False), ("localhost", "", False)],
)
def test_a_pool_that_others_reach_should_have_a_token(
    host: str,
    token: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(UsageError, match="`port` is -1"):
        serve(host, -1, allow_root=True)
    assert ("whoever reaches 0.0.0.0 can run code here" in caplog.text) == warned


def test_it_listens_on_this_machine_only(pool: Pool) -> None:
    """Linux lists addresses in hexadecimal, an IPv4 one also at the end of an IPv6 one."""
    port = f"{int(pool.address.rsplit(':', 1)[1]):04X}"
    lines = [line.split() for name in ("tcp", "tcp6") for line in proc_net(name)]
    listening = [line[1].split(":") for line in lines if line[3] == "0A"]
    found = {address for address, its_port in listening if its_port == port}
    assert found and all(address.endswith(("0100007F", "0" * 24 + "01000000")) for address in found)


def proc_net(name: str) -> list[str]:
    path = Path("/proc/net") / name
    return path.read_text().splitlines()[1:] if path.exists() else []
