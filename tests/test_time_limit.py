"""An image that takes too long becomes a failure, is named in the log, and holds up no other."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

import featureid
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.images import DecodeLimits
from featureid.inputs import ImageRef
from featureid.models import resolve_model
from featureid.storage.records import Failure
from tests.test_bmp import bmp

WIDTH, HEIGHT = 4096, 8192


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a photo and of an image that takes 10 seconds: a run for each of its pixels."""
    folder = tmp_path_factory.mktemp("slow")
    table = np.zeros((16, 3), np.uint8)
    runs = (b"\1\2" * WIDTH + b"\0\0") * HEIGHT
    (folder / "slow.bmp").write_bytes(bmp(runs, (WIDTH, HEIGHT), 8, 1, table))
    Image.fromarray(photos.coffee()).save(folder / "photo.jpg")
    return folder


def test_an_image_that_takes_too_long(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = DecodeLimits(max_seconds_per_image=0.5)
    embedder = Embedder(resolve_model("image"), EmbedSettings(threads=1, limits=limits))
    refs = [ImageRef(path.name, str(path), "v1") for path in sorted(folder.iterdir())]
    with caplog.at_level(logging.WARNING, "featureid"):
        (first,), (failed,), (again,) = embedder.submit([*refs, refs[0]]).result()
    embedder.close()
    assert isinstance(failed, Failure) and failed.key == "slow.bmp"
    assert (failed.stage, failed.reason) == ("decode", "time-limit")
    assert failed.of_content and "`max_seconds_per_image`" in failed.message
    assert "slow.bmp" in caplog.text
    assert not isinstance(first, Failure) and not isinstance(again, Failure)
    np.testing.assert_array_equal(first.vector, again.vector)


def test_a_run_with_such_an_image_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "featureid", "embed", str(folder), "--output", str(out)]
    done = subprocess.run(
        [*command, "--max-seconds-per-image=1", "--strip-prefix", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "slow.bmp: given up" in done.stderr
    snapshot = featureid.open_snapshot(str(out))
    assert [*snapshot] == ["photo.jpg"]
    assert [failure.reason for failure in snapshot.failures()] == ["time-limit"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_the_limit_is_a_time(seconds: float) -> None:
    with pytest.raises(UsageError, match="max_seconds_per_image"):
        DecodeLimits(max_seconds_per_image=seconds)
