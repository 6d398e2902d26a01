"""Read images and leave out those whose bytes are what they were."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from featureid.embedding import EmbedSettings
from featureid.errors import ImageError
from featureid.inputs import ImageRef, read_image
from featureid.parallel import available_cpus
from featureid.refresh import Comparison
from featureid.transforms.progress import Stage

_READS_PER_THREAD = 4


class CompareContent(beam.PTransform):
    """Images with the SHA-256 that their content had, parted by whether it still has it.

    Input: ``PCollection[Comparison]``.
    Output: a mapping with ``images``, a ``PCollection[ImageRef]`` of what is to be embedded, also
    where it could not be read, and ``same``, a ``PCollection[Comparison]`` of the others.

    Args:
        settings: threads and the largest file that is read.
    """

    def __init__(self, settings: EmbedSettings) -> None:
        super().__init__()
        self._dofn = _Compare(settings)

    def expand(self, refs: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the comparison."""
        # A part of the listing was planned in one place; reading shall use all workers.
        spread = refs | "SpreadCompare" >> beam.Reshuffle()
        compared = spread | "Compare" >> beam.ParDo(self._dofn).with_outputs("same", main="images")
        return {"images": compared.images, "same": compared.same}


def has_content(ref: ImageRef, sha256: bytes, max_bytes: int) -> bool:
    """Whether the bytes of an image have this SHA-256; False if they cannot be read."""
    try:
        return hashlib.sha256(read_image(ref.uri, max_bytes)).digest() == sha256
    except ImageError:
        return False  # To embed it tells why, as a failure row.


class _Compare(beam.DoFn):
    def __init__(self, settings: EmbedSettings) -> None:
        self._max_bytes = settings.limits.max_bytes
        self._threads = settings.threads
        self._same = Metrics.counter("featureid", "same_content")
        self._stage = Stage("compare")

    def setup(self) -> None:
        self._workers = self._threads or available_cpus()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="compare")

    def teardown(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start_bundle(self) -> None:
        self._reading: deque[tuple[Comparison, Future[bool]]] = deque()

    def process(self, compared: Comparison) -> Iterator[ImageRef | TaggedOutput]:
        reading = self._pool.submit(has_content, compared.ref, compared.sha256, self._max_bytes)
        self._reading.append((compared, reading))
        while len(self._reading) > _READS_PER_THREAD * self._workers:
            compared, same = self._next()
            yield TaggedOutput("same", compared) if same else compared.ref

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        while self._reading:
            compared, same = self._next()
            if same:
                yield TaggedOutput("same", GlobalWindows.windowed_value(compared))
            else:
                yield GlobalWindows.windowed_value(compared.ref)

    def _next(self) -> tuple[Comparison, bool]:
        compared, reading = self._reading.popleft()
        with self._stage:
            same = reading.result()
        self._same.inc(int(same))
        return compared, same
