"""The same on Prism, Beam's portable engine, whose workers our pool starts, too."""

import os
import signal
from pathlib import Path

import pytest

from tests.beam_examples import run_examples
from tests.flink import runs
from tests.processes import Pool, running_pool


@pytest.fixture
def external(prism_options: list[str], pool: Pool) -> list[str]:
    return [
        *prism_options,
        "--environment_type=EXTERNAL",
        f"--environment_config={pool.address}",
    ]


@pytest.mark.parametrize("environment", ["EXTERNAL", "LOOPBACK"])
def test_prism_gives_the_same_snapshot(
    photos: Path, external: list[str], prism_options: list[str], tmp_path: Path, environment: str
) -> None:
    here = runs.embed(photos, tmp_path / "here", [])
    loopback = [*prism_options, "--environment_type=LOOPBACK"]
    options = external if environment == "EXTERNAL" else loopback
    runs.check_same(here, runs.embed(photos, tmp_path / "prism", options))


def test_after_a_worker_is_killed_nothing_is_published_and_the_next_run_succeeds(
    photos: Path, external: list[str], pool: Pool, tmp_path: Path
) -> None:
    many = runs.link_many(photos, tmp_path / "many", 400)
    here = runs.embed(many, tmp_path / "here", [])
    runs.check_recovers_or_publishes_nothing(
        lambda: os.kill(runs.workers(pool)[0], signal.SIGKILL),
        *(here, many, external, pool, tmp_path),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launcher_cancels_the_run(
    photos: Path, external: list[str], pool: Pool, tmp_path: Path, number: signal.Signals
) -> None:
    many, log = runs.link_many(photos, tmp_path / "many", 400), tmp_path / "log"
    with runs.embedding(many, tmp_path / "out", external, pool, log) as run:
        run.send_signal(number)
        assert run.wait(runs.LIMIT_S) == 130
    # Not necessarily the last line: Prism's own log is copied by another thread.
    lines = log.read_text(encoding="utf-8").splitlines()
    assert "featureid: interrupted" in lines and not any("Traceback" in line for line in lines)
    assert not (tmp_path / "out" / "current").exists()


def test_a_pool_that_is_terminated_takes_its_workers_along(
    photos: Path, prism_options: list[str], tmp_path: Path
) -> None:
    many = runs.link_many(photos, tmp_path / "many", 400)
    with running_pool(tmp_path / "pool.log") as pool:
        options = [
            *prism_options,
            "--environment_type=EXTERNAL",
            f"--environment_config={pool.address}",
        ]
        with runs.embedding(many, tmp_path / "out", options, pool, tmp_path / "log") as run:
            (worker,) = runs.workers(pool)
            pool.process.terminate()
            assert pool.process.wait(runs.LIMIT_S) == 0
            assert not Path(f"/proc/{worker}").exists()
            assert run.wait(runs.LIMIT_S) == 1
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_the_examples_of_the_documentation_run(
    photos: Path, prism_options: list[str], tmp_path: Path
) -> None:
    run_examples(tmp_path, photos, [*prism_options, "--environment_type=LOOPBACK"])
