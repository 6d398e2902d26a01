"""Nights on a Flink cluster with pictures, previous snapshot and output in object stores."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.flink import runs
from tests.processes import running_pool
from tests.stores.conftest import gs, s3, s3_server
from tests.stores.servers import BUCKET

__all__ = ["gs", "s3", "s3_server"]


@pytest.fixture(params=["s3", "gs"])
def scheme(request: pytest.FixtureRequest) -> Iterator[str]:
    """One store after the other, each with six photos below ``photos/in``."""
    request.getfixturevalue(request.param)
    yield request.param


def test_nights_in_a_store(
    scheme: str, photos: Path, flink_options: list[str], tmp_path: Path
) -> None:
    source, output = f"{scheme}://{BUCKET}/in", f"{scheme}://{BUCKET}/out"
    keys = [f"--strip-prefix={source}/"]
    # A pool of its own: its environment tells the workers where the stores are.
    with running_pool(tmp_path / "pool.log") as pool:
        external = ["--environment_type=EXTERNAL", f"--environment_config={pool.address}"]
        night = [*flink_options, *external, *keys]
        runs.embed(source, output, night)
        store = fsspec.filesystem(scheme)
        store.pipe_file(f"{BUCKET}/in/added.jpg", (photos / "small" / "rocket.jpg").read_bytes())
        store.rm_file(f"{BUCKET}/in/chelsea.jpg")
        store.invalidate_cache()
        found = runs.embed(source, output, night)

    pictures = tmp_path / "pictures"
    shutil.copytree(photos / "small", pictures)
    shutil.copy(pictures / "rocket.jpg", pictures / "added.jpg")
    (pictures / "chelsea.jpg").unlink()
    here = runs.embed(pictures, tmp_path / "here", [f"--strip-prefix={pictures}/"])
    runs.check_same(here, found)
