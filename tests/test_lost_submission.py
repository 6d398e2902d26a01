"""A job whose submission seemed to fail, so that its mark was removed, but which runs after all."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.storage import files
from featureid.storage.snapshot import current_snapshot
from tests.lost_runner import run_job


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An output folder on disk, and one in a store, where writing needs no folder."""
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out"


def test_a_job_that_was_taken_for_lost_publishes_nothing(
    output: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embed = ["embed", str(photos / "small"), "--output", output]
    lost = [*embed, "--runner=tests.lost_runner.LostRunner", f"--temp_location={tmp_path / 'job'}"]
    snapshots = files.join(output, "snapshots")
    # An output that was made for the run goes with it, and the model in it.
    for said in (r"Cannot read .*\.fidmodel", r"has lost its run.json: .* Nothing is published"):
        before = current_snapshot(output)
        assert cli.main([*lost, "--re-embed"]) == 1
        assert "the run could not be submitted: ConnectionError" in capsys.readouterr().err
        assert files.exists(output) == (before is not None)
        with pytest.raises(Exception, match=said):
            run_job(tmp_path / "job")
        assert current_snapshot(output) == before
        assert files.list_places(snapshots) == ([before] if before else [])
        if before is None:
            assert cli.main(embed) == 0
