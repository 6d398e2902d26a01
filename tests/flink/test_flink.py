"""The embed pipeline on a real Flink cluster: the same snapshot, and what faults make of it."""

import os
import shutil
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import featureid
from tests.beam_examples import run_examples
from tests.flink import runs
from tests.flink.conftest import Cluster
from tests.processes import Pool, wait_until

MANY = 800


@pytest.fixture(scope="module")
def here(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> featureid.Snapshot:
    """The photos, embedded on this machine."""
    return runs.embed(photos, tmp_path_factory.mktemp("here"), [])


@pytest.fixture(scope="module")
def many(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.link_many(photos, tmp_path_factory.mktemp("many") / "pictures", MANY)


@pytest.fixture(scope="module")
def many_here(many: Path, tmp_path_factory: pytest.TempPathFactory) -> featureid.Snapshot:
    return runs.embed(many, tmp_path_factory.mktemp("many_here"), [])


@pytest.fixture
def external(flink_options: list[str], pool: Pool) -> list[str]:
    """The way to use: workers from a pool beside the TaskManagers."""
    return [
        *flink_options,
        "--environment_type=EXTERNAL",
        f"--environment_config={pool.address}",
    ]


def test_external_workers_give_the_same_snapshot(
    photos: Path, here: featureid.Snapshot, external: list[str], tmp_path: Path
) -> None:
    runs.check_same(here, runs.embed(photos, tmp_path, external))


def test_the_launcher_as_worker_gives_the_same_snapshot(
    photos: Path, here: featureid.Snapshot, flink_options: list[str], tmp_path: Path
) -> None:
    # With one task at a time: Beam's LOOPBACK takes the workers of two TaskManagers for one.
    options = [*flink_options, "--environment_type=LOOPBACK", "--parallelism=1"]
    runs.check_same(here, runs.embed(photos, tmp_path, options))


def test_a_jar_that_is_submitted_gives_the_same_snapshot(
    photos: Path, here: featureid.Snapshot, external: list[str], tmp_path: Path
) -> None:
    options = [*external, "--flink_submit_uber_jar"]
    runs.check_same(here, runs.embed(photos, tmp_path, options))


@pytest.mark.parametrize("check", ["version", "content"])
def test_a_night_gives_what_a_full_run_gives(
    photos: Path, external: list[str], whole_cluster: Cluster, tmp_path: Path, check: str
) -> None:
    pictures, output = tmp_path / "pictures", tmp_path / "out"
    shutil.copytree(photos / "small", pictures)
    names = sorted(path.name for path in pictures.iterdir())
    (pictures / "bad.jpg").write_bytes(b"no picture")
    runs.embed(pictures, output, external)

    (pictures / names[1]).unlink()
    shutil.copy(pictures / names[2], pictures / "new.jpg")
    (pictures / names[3]).touch()
    (pictures / names[4]).write_bytes(b"no picture any more")
    night = runs.embed(pictures, output, [*external, f"--check={check}"])
    full = runs.embed(pictures, tmp_path / "full", [])
    runs.check_same(full, night)
    failures = list(night.failures())
    assert failures == list(full.failures())
    assert len(failures) == 2


def test_matches_are_those_of_a_local_run(
    external: list[str], whole_cluster: Cluster, tmp_path: Path
) -> None:
    query, gallery, older = runs.write_matched(tmp_path)
    options = [f"--gallery={gallery}", f"--query={query}", f"--query-since={older}", "--k=3"]
    here = runs.results("match", [*options, f"--output={tmp_path / 'here'}"])
    found = runs.results("match", [*options, f"--output={tmp_path / 'found'}", *external])
    assert found.manifest.counts == here.manifest.counts
    assert found.to_arrow().equals(here.to_arrow())


def test_groups_are_those_of_a_local_run(
    external: list[str], whole_cluster: Cluster, tmp_path: Path
) -> None:
    snapshot = runs.write_rows(tmp_path, 1000)
    options = [f"--input={snapshot}", "--threshold=0.8"]
    here = runs.results("duplicates", [*options, f"--output={tmp_path / 'here'}"])
    found = runs.results("duplicates", [*options, f"--output={tmp_path / 'found'}", *external])
    assert found.manifest.counts == here.manifest.counts and here.manifest.counts["groups"] > 10
    assert found.to_arrow().equals(here.to_arrow())


def cancel(cluster: Cluster) -> None:
    (job,) = cluster.jobs("RUNNING")
    url = f"http://{cluster.address}/v1/jobs/{job}?mode=cancel"
    with urllib.request.urlopen(urllib.request.Request(url, method="PATCH"), timeout=30):
        pass
    wait_until(lambda: job in cluster.jobs("CANCELED"))


FAULTS: dict[str, Callable[[Cluster, Pool], object]] = {
    "a TaskManager is killed": lambda cluster, _: cluster.kill_a_task_manager(),
    "a worker is killed": lambda _, pool: os.kill(runs.workers(pool)[0], signal.SIGKILL),
    "the job is canceled": lambda cluster, _: cancel(cluster),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_after_a_fault_the_rows_are_the_same_or_nothing_is_published(
    fault: Callable[[Cluster, Pool], object],
    many: Path,
    many_here: featureid.Snapshot,
    external: list[str],
    whole_cluster: Cluster,
    pool: Pool,
    tmp_path: Path,
) -> None:
    def happens() -> None:
        fault(whole_cluster, pool)
        whole_cluster.replace_lost_task_managers()

    runs.check_recovers_or_publishes_nothing(happens, many_here, many, external, pool, tmp_path)


def test_the_examples_of_the_documentation_run(
    photos: Path, flink_options: list[str], tmp_path: Path
) -> None:
    plugins = "--beam_plugins=featureid.transforms"
    run_examples(tmp_path, photos, [*flink_options, "--environment_type=LOOPBACK", plugins])
