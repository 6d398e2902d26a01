"""The transforms as other people's pipelines use them: typed, in windows, on two runners."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue

import featureid
from featureid.errors import UsageError
from featureid.inputs import ImageRef
from featureid.storage.records import EmbeddingRow, Failure
from featureid.storage.verify import verify_snapshot
from featureid.transforms import EmbedImages, ReadSnapshot, WriteSnapshot
from tests.beam_examples import run_examples

RUNNERS = {
    # Beam's in-process engine, and its portable one behind a job server with workers of its own.
    "local": [f"--update_compatibility_version={beam.__version__}"],
    "portable": ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"],
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """Five photos and a file that is not an image."""
    folder = tmp_path_factory.mktemp("images")
    for name in ("astronaut", "camera", "chelsea", "coffee", "rocket"):
        shutil.copy(photos / "small" / f"{name}.jpg", folder)
    (folder / "broken.jpg").write_bytes(b"not an image")
    return folder


def paths_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


@contextmanager
def pipeline_on(runner: str = "local") -> Iterator[beam.Pipeline]:
    with beam.Pipeline(options=PipelineOptions(RUNNERS[runner])) as pipeline:
        yield pipeline


def window_of(
    value: EmbeddingRow | Failure,
    window: object = beam.DoFn.WindowParam,
    timestamp: object = beam.DoFn.TimestampParam,
) -> tuple[str, float, float, float]:
    start, end, at = (float(time) for time in (window.start, window.end, timestamp))  # type: ignore[attr-defined, arg-type]
    return Path(value.key).stem, start, end, at


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_goes_in_at_5_s_in_a_fixed_window_comes_out_in_it(images: Path, runner: str) -> None:
    paths = paths_in(images)
    with pipeline_on(runner) as pipeline:
        timed = pipeline | beam.Create(
            [TimestampedValue(p, 5 + 10 * i) for i, p in enumerate(paths)]
        )
        embedded = timed | beam.WindowInto(FixedWindows(10)) | EmbedImages("image")
        every = (embedded["rows"], embedded["failures"]) | beam.Flatten()
        expected = [(Path(p).stem, 10 * i, 10 * i + 10, 10 * i + 5) for i, p in enumerate(paths)]
        assert_that(every | beam.Map(window_of), equal_to(expected))


def test_an_image_of_two_windows_comes_out_in_both(images: Path) -> None:
    with pipeline_on() as pipeline:
        timed = pipeline | beam.Create([TimestampedValue(str(images / "coffee.jpg"), 7)])
        embedded = timed | beam.WindowInto(SlidingWindows(10, 5)) | EmbedImages("image")
        found = embedded["rows"] | beam.Map(window_of)
        assert_that(found, equal_to([("coffee", 0, 10, 7), ("coffee", 5, 15, 7)]))


@pytest.mark.parametrize("runner", RUNNERS)
def test_images_are_embedded_written_and_read_back(
    images: Path, tmp_path: Path, runner: str
) -> None:
    output = str(tmp_path / "out")
    with pipeline_on(runner) as pipeline:
        embedded = pipeline | beam.Create(paths_in(images)) | EmbedImages("image")
        embedded | WriteSnapshot(output)
    assert verify_snapshot(output).ok
    snapshot = featureid.open_snapshot(output)
    assert sorted(snapshot) == [path for path in paths_in(images) if "broken" not in path]
    assert [failure.reason for failure in snapshot.failures()] == ["not-an-image"]
    for key in snapshot:
        np.testing.assert_array_equal(snapshot[key], featureid.generate_feature_id(key))
    with pipeline_on(runner) as pipeline:
        rows = pipeline | ReadSnapshot(output)
        expected = {key: snapshot[key].tobytes() for key in snapshot}
        found = rows | beam.Map(lambda row: (row.key, row.vector.tobytes()))
        assert_that(found, equal_to(list(expected.items())))


def test_collections_are_typed(images: Path, tmp_path: Path) -> None:
    pipeline = beam.Pipeline()
    embedded = pipeline | beam.Create(paths_in(images)) | EmbedImages("image")
    assert embedded["rows"].element_type == EmbeddingRow
    assert embedded["failures"].element_type == Failure
    assert (embedded | WriteSnapshot(str(tmp_path))).element_type is str
    assert (pipeline | ReadSnapshot(str(tmp_path))).element_type == EmbeddingRow


def test_a_reference_chooses_the_key_and_the_version(images: Path) -> None:
    ref = ImageRef("my key", str(images / "coffee.jpg"), "etag:7")
    with pipeline_on() as pipeline:
        embedded = pipeline | beam.Create([ref]) | EmbedImages("image")
        found = embedded["rows"] | beam.Map(lambda row: (row.key, row.source_version))
        assert_that(found, equal_to([("my key", "etag:7")]))


def test_all_faces_of_an_image_have_rows(photos: Path, images: Path, tmp_path: Path) -> None:
    with pipeline_on() as pipeline:
        paths = pipeline | beam.Create([str(photos / "astronaut.png"), str(images / "coffee.jpg")])
        embedded = paths | EmbedImages("face", faces="all")
        embedded | WriteSnapshot(str(tmp_path))
    snapshot = featureid.open_snapshot(tmp_path)
    assert [Path(key).stem for key in snapshot] == ["astronaut"]
    assert [failure.reason for failure in snapshot.failures()] == ["no-face"]
    with pipeline_on() as pipeline:
        faces = pipeline | ReadSnapshot(str(tmp_path)) | beam.Map(lambda row: row.face.index)
        assert_that(faces, equal_to([0]))


def test_columns_are_read_as_mappings(images: Path, tmp_path: Path) -> None:
    with pipeline_on() as pipeline:
        embedded = pipeline | beam.Create(paths_in(images)) | EmbedImages("image")
        embedded | WriteSnapshot(str(tmp_path))
    with pipeline_on() as pipeline:
        rows = pipeline | ReadSnapshot(str(tmp_path), columns=["key", "width"])
        widths = rows | beam.Map(lambda row: (Path(row["key"]).stem, int(row["width"]), len(row)))
        names = ("astronaut", "camera", "chelsea", "coffee", "rocket")
        assert_that(widths, equal_to([(name, 200, 2) for name in names]))


def test_rows_of_one_snapshot_become_another(images: Path, tmp_path: Path) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    with pipeline_on() as pipeline:
        embedded = pipeline | beam.Create(paths_in(images)) | EmbedImages("image")
        embedded | WriteSnapshot(first)
    snapshot = featureid.open_snapshot(first)
    with pipeline_on() as pipeline:
        kept = pipeline | ReadSnapshot(first) | beam.Filter(lambda row: "coffee" in row.key)
        {"rows": kept} | WriteSnapshot(second, model=snapshot.model)
    assert [Path(key).stem for key in featureid.open_snapshot(second)] == ["coffee"]


def test_rows_of_an_unknown_model_are_refused(images: Path, tmp_path: Path) -> None:
    pipeline = beam.Pipeline()
    rows = pipeline | beam.Create([], reshuffle=False)
    with pytest.raises(UsageError, match="model="):
        {"rows": rows} | WriteSnapshot(str(tmp_path))


def test_a_missing_snapshot_fails_the_pipeline(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="does not exist"), pipeline_on() as pipeline:
        pipeline | ReadSnapshot(str(tmp_path / "none"))


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_examples_of_the_documentation_run(photos: Path, tmp_path: Path, runner: str) -> None:
    run_examples(tmp_path, photos, RUNNERS[runner])
