"""Read images again and leave out those whose bytes have not changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from featureid.embedding import EmbedSettings
from featureid.errors import ImageError, StorageError, UsageError
from featureid.inputs import ImageRef, read_image
from featureid.parallel import OrderedFutures, available_cpus
from featureid.refresh import Comparison
from featureid.transforms import metrics
from featureid.transforms.progress import progress_of

_READS_PER_THREAD = 4


class CheckContent(beam.PTransform):
    """Split images of known SHA-256 by whether their content still has it.

    Input: ``PCollection[Comparison]``.
    Output: a mapping with ``images``, a ``PCollection[ImageRef]`` of those to embed, including
    those that cannot be read, and ``same``, a ``PCollection[Comparison]`` of the others.

    Args:
        settings: number of threads, and the largest file that is read.
        run: a unique name of the run, for its progress.
    """

    def __init__(self, settings: EmbedSettings, run: str) -> None:
        super().__init__()
        self._dofn = _Check(settings, run)

    def expand(self, refs: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the check."""
        # A partition of the listing was planned in one place; reading should use all workers.
        spread = refs | "SpreadToCheck" >> beam.Reshuffle()
        checked = spread | "Check" >> beam.ParDo(self._dofn).with_outputs("same", main="images")
        return {"images": checked.images, "same": checked.same}


def has_content(ref: ImageRef, sha256: bytes, max_bytes: int) -> bool:
    """Return whether the bytes of an image have this SHA-256; False if they cannot be read."""
    try:
        return hashlib.sha256(read_image(ref.uri, max_bytes)).digest() == sha256
    except (ImageError, StorageError, UsageError):
        return False  # Embedding it turns the error into a failure row.


class _Check(beam.DoFn):
    def __init__(self, settings: EmbedSettings, run: str) -> None:
        self._run = run
        self._max_bytes = settings.limits.max_bytes
        self._threads = settings.threads
        self._stage = metrics.Stage(metrics.CHECK)

    def setup(self) -> None:
        self._workers = self._threads or available_cpus()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="check")
        self._progress = progress_of(self._run)

    def teardown(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start_bundle(self) -> None:
        limit = _READS_PER_THREAD * self._workers
        self._reading: OrderedFutures[tuple[Comparison, WindowedValue], bool] = OrderedFutures(
            limit
        )

    def process(
        self,
        known: Comparison,
        element: WindowedValue = beam.DoFn.WindowedValueParam,
        _window: object = beam.DoFn.WindowParam,  # each window of an element on its own
    ) -> Iterator[WindowedValue | TaggedOutput]:
        reading = self._pool.submit(has_content, known.ref, known.sha256, self._max_bytes)
        with self._stage:
            done = list(self._reading.add((known, element), reading))
        yield from (self._output(*item, same) for item, same in done)

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        with self._stage:
            done = list(self._reading.drain())
        yield from (self._output(*item, same) for item, same in done)

    def _output(
        self, known: Comparison, element: WindowedValue, same: bool
    ) -> WindowedValue | TaggedOutput:
        metrics.count(metrics.SAME_CONTENT, int(same))
        if same:
            self._progress.add(1)
            return TaggedOutput("same", element.with_value(known))
        return element.with_value(known.ref)
