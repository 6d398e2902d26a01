"""Turn image references into embedding rows, with the model held by the DoFn."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from featureid.embedding import BatchedStream, Embedder, EmbedSettings
from featureid.errors import BundleError
from featureid.inputs import ImageRef
from featureid.model_store import open_model
from featureid.storage.records import EmbeddingRow, Failure
from featureid.transforms.progress import PROGRESS, now_ms


class EmbedImages(beam.PTransform):
    """Image references to embedding rows and failures.

    Input: ``PCollection[ImageRef]``.
    Output: a mapping with ``rows``, a ``PCollection[EmbeddingRow]``, and ``failures``, a
    ``PCollection[Failure]``.

    Reading, decoding and inference happen in one step on a pool of threads: pixels are large, and
    to pass them from step to step would cost more than to keep them where they are.

    Args:
        model: name of a known model, or the path or URI of a bundle that all workers can read.
        model_digest: the digest that this bundle must have.
        preprocessing_digest: the digest of all that happens to pixels, with finding faces.
        settings: threads, batch size, limits, back end, faces.
    """

    def __init__(
        self, model: str, model_digest: str, preprocessing_digest: str, settings: EmbedSettings
    ) -> None:
        super().__init__()
        self._dofn = _Embed(model, model_digest, preprocessing_digest, settings)

    def expand(self, refs: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the embedding."""
        embedded = refs | "Embed" >> beam.ParDo(self._dofn).with_outputs("failures", main="rows")
        return {"rows": embedded.rows, "failures": embedded.failures}


class _Embed(beam.DoFn):
    def __init__(
        self, model: str, model_digest: str, preprocessing_digest: str, settings: EmbedSettings
    ) -> None:
        self._model = model
        self._model_digest = model_digest
        self._preprocessing_digest = preprocessing_digest
        self._settings = settings
        # A worker process may run several copies of this DoFn; they share one model.
        self._shared = Shared()
        self._embedded = Metrics.counter("featureid", "embedded")
        self._failed = Metrics.counter("featureid", "failed")
        # Their smallest and largest tell when work began and ended, on any runner.
        self._begun_at_ms = Metrics.distribution("featureid", "begun_at_ms")
        self._embedded_at_ms = Metrics.distribution("featureid", "embedded_at_ms")

    def setup(self) -> None:
        self._embedder = self._shared.acquire(self._make_embedder, tag=self._model_digest)

    def _make_embedder(self) -> Embedder:
        bundle = open_model(self._model, self._model_digest)
        embedder = Embedder(bundle, self._settings)
        if embedder.preprocessing_digest != self._preprocessing_digest:
            embedder.close()
            raise BundleError(
                "this worker would cut out faces otherwise than the run was started to do: its "
                "detector is another, or has another model file"
            )
        return embedder

    def start_bundle(self) -> None:
        # Made anew, since what a failed bundle left behind must not leak into the next one.
        self._stream = BatchedStream(self._embedder, self._settings.batch_size)
        self._begun_at_ms.update(now_ms())

    def process(self, ref: ImageRef) -> Iterator[EmbeddingRow | beam.pvalue.TaggedOutput]:
        for result in self._stream.add(ref):
            self._count(result)
            if isinstance(result, Failure):
                yield beam.pvalue.TaggedOutput("failures", result)
            else:
                yield result

    def finish_bundle(self) -> Iterator[WindowedValue | beam.pvalue.TaggedOutput]:
        for result in self._stream.finish():
            self._count(result)
            value = GlobalWindows.windowed_value(result)
            if isinstance(result, Failure):
                yield beam.pvalue.TaggedOutput("failures", value)
            else:
                yield value

    def _count(self, result: EmbeddingRow | Failure) -> None:
        if isinstance(result, Failure):
            self._failed.inc()
            Metrics.counter("featureid", f"failed_{result.reason}").inc()
            PROGRESS.add(failed=1)
        elif result.face is None or result.face.index <= 0:  # an image counts once
            self._embedded.inc()
            self._embedded_at_ms.update(now_ms())
            PROGRESS.add(embedded=1)
