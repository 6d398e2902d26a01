import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featureid.embedding import (
    BatchedStream,
    Embedder,
    EmbedSettings,
    infer_each,
    normalize,
)
from featureid.errors import ImageError, UsageError
from featureid.inputs import ImageRef
from featureid.library import generate_feature_id
from featureid.models import resolve_model
from featureid.storage.records import EmbeddingRow, Failure


def one_pixel_images(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


def failing_on(*bad: int) -> tuple[Callable[[np.ndarray], np.ndarray], list[int]]:
    """A model that fails on any batch with one of these values, and the sizes of its calls."""
    sizes: list[int] = []

    def infer(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        if not set(bad).isdisjoint(batch[:, 0, 0, 0].tolist()):
            raise RuntimeError("cannot take this image")
        return batch[:, 0, 0, :].astype(np.float32)

    return infer, sizes


def test_normalize_gives_unit_length() -> None:
    vector = np.array([3e-20, 4e-20], np.float32)  # Squares that float32 cannot hold.
    np.testing.assert_allclose(normalize(vector), [0.6, 0.8], rtol=1e-6)
    assert normalize(vector).dtype == np.float32


@pytest.mark.parametrize(
    ("vector", "reason"),
    [([0.0, 0.0], "zero-vector"), ([np.nan, 1.0], "non-finite"), ([np.inf, 1.0], "non-finite")],
)
def test_normalize_refuses_what_has_no_direction(vector: list[float], reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        normalize(np.array(vector, np.float32))
    assert (caught.value.stage, caught.value.reason) == ("embed", reason)


@pytest.mark.parametrize("bad", [[], [5], [1, 8], [1, 2, 3, 4, 5, 6, 7, 8]])
def test_a_failing_batch_is_halved_down_to_the_images_at_fault(bad: list[int]) -> None:
    infer, _ = failing_on(*bad)
    values = [1, 2, 3, 4, 5, 6, 7, 8]
    results = list(infer_each(infer, one_pixel_images(values)))
    failed = [v for v, r in zip(values, results, strict=True) if isinstance(r, ImageError)]
    assert failed == bad
    assert all("cannot take this image" in str(r) for r in results if isinstance(r, ImageError))


def test_halving_takes_few_calls() -> None:
    infer, sizes = failing_on(3)
    list(infer_each(infer, one_pixel_images(list(range(1, 9)))))
    assert sizes == [8, 4, 2, 2, 1, 1, 4]


def test_a_vector_without_direction_fails_no_other_image() -> None:
    infer, _ = failing_on()
    good, bad = infer_each(infer, one_pixel_images([7, 0]))
    assert isinstance(bad, ImageError) and bad.reason == "zero-vector"
    assert not isinstance(good, ImageError)
    assert np.linalg.norm(good) == pytest.approx(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRef]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(7)
    for i in range(21):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (folder / "05.png").write_bytes(b"not an image")
    return [ImageRef(path.name, str(path)) for path in sorted(folder.iterdir())]


def embed_all(refs: list[ImageRef], settings: EmbedSettings) -> dict[str, EmbeddingRow | Failure]:
    embedder = Embedder(resolve_model("image"), settings)
    stream: BatchedStream[None] = BatchedStream(embedder, settings.batch_size)
    results = [result for ref in refs for _, result in stream.add(ref, None)]
    results += (result for _, result in stream.finish())
    embedder.close()
    assert len(results) == len(refs)
    return {result.key: result for result in results}


def test_threads_and_batches_change_nothing(images: list[ImageRef]) -> None:
    expected = embed_all(images, EmbedSettings(threads=1, batch_size=1))
    for threads, batch_size in [(1, 64), (4, 1), (4, 3)]:
        found = embed_all(images, EmbedSettings(threads=threads, batch_size=batch_size))
        assert found.keys() == expected.keys()
        for key, row in expected.items():
            other = found[key]
            if isinstance(row, EmbeddingRow) and isinstance(other, EmbeddingRow):
                np.testing.assert_array_equal(other.vector, row.vector)
            else:
                assert other == row


def test_results_are_rows_and_failures(images: list[ImageRef]) -> None:
    found = embed_all(images[4:7], EmbedSettings())
    assert isinstance(found["05.png"], Failure)
    assert found["05.png"].reason == "not-an-image"
    row = found["04.png"]
    assert isinstance(row, EmbeddingRow)
    assert (row.width, row.height) == (50, 40)
    assert row.source_size == Path(images[4].uri).stat().st_size
    np.testing.assert_array_equal(row.vector, generate_feature_id(images[4].uri))


def test_a_stream_keeps_a_bounded_number_of_batches_running(images: list[ImageRef]) -> None:
    release = threading.Event()
    submitted = 0

    class StuckEmbedder(Embedder):
        def __init__(self) -> None:
            super().__init__(resolve_model("image"), EmbedSettings(threads=1))

        def _embed(self, refs, loaded):  # type: ignore[no-untyped-def]
            assert release.wait(30)
            return [[] for _ in refs]

        def submit(self, refs):  # type: ignore[no-untyped-def]
            nonlocal submitted
            submitted += 1
            if submitted == 3:
                release.set()  # The third batch is one too many: the stream now has to wait.
            return super().submit(refs)

    embedder = StuckEmbedder()
    stream: BatchedStream[None] = BatchedStream(embedder, 1)
    for ref in images[:2]:
        assert list(stream.add(ref, None)) == []
    assert not release.is_set()
    list(stream.add(images[2], None))
    assert submitted == 3
    list(stream.finish())
    embedder.close()


def test_a_result_comes_with_the_context_of_its_image(images: list[ImageRef]) -> None:
    embedder = Embedder(resolve_model("image"), EmbedSettings(threads=3))
    stream: BatchedStream[str] = BatchedStream(embedder, 2)
    results = [pair for ref in images for pair in stream.add(ref, ref.key)]
    results += stream.finish()
    embedder.close()
    assert [result.key for _, result in results] == [ref.key for ref in images]
    assert all(context == result.key for context, result in results)


@pytest.mark.parametrize("options", [{"threads": -1}, {"batch_size": 0}])
def test_settings_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="it must be"):
        EmbedSettings(**options)
