"""Turn images into embedding rows, with the model held by the DoFn."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import DoOutputsTuple, TaggedOutput
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from featureid.embedding import BatchedStream, Embedder, EmbedSettings, Result, describe_model
from featureid.errors import BundleError
from featureid.images import FaceSettings
from featureid.images.face_finder import FaceChoice
from featureid.inputs import ImageRef, local_ref
from featureid.model_store import open_model, share_model
from featureid.models.bundle import content_digest
from featureid.storage.records import EmbeddingRow, Failure, ModelInfo
from featureid.transforms import metrics
from featureid.transforms.progress import progress_of

ROWS, FAILURES = "rows", "failures"


class EmbedImages(beam.PTransform):
    """Embed images: paths, URIs or image references to embedding rows and failures.

    Input: ``PCollection[str | ImageRef]``, in any window. A path or URI is its own key; give an
    :class:`~featureid.inputs.ImageRef` to choose another one, or to state the source version of a
    remote image.

    Output: a mapping with ``rows``, a ``PCollection[EmbeddingRow]``, and ``failures``, a
    ``PCollection[Failure]`` (the dead letters), each in the window and with the timestamp of its
    image; and ``model``, a ``PCollection[ModelInfo]`` of one element.

    Reading, decoding and inference happen in one step on a pool of threads: pixels are large, and
    passing them from step to step would cost more than keeping them where they are.

    Args:
        model: a known model's name, or the path or URI of a bundle that all workers can read.
        faces: for a model of faces, which of them (``largest``, ``center``, ``all``,
            ``require-one``), or all settings; None means the largest.
        settings: threads, batch size, limits and backend; ``faces`` is ignored in them.

    Raises:
        UsageError: the model is unknown or takes whole images and ``faces`` is given.
        ModelError: the model or the face detector cannot be loaded or built here.
    """

    def __init__(
        self,
        model: str = "image",
        *,
        faces: FaceChoice | FaceSettings | None = None,
        settings: EmbedSettings | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._settings = (settings or EmbedSettings()).with_faces(faces)

    def expand(self, images: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the embedding."""
        # Held by this transform, and so by the pipeline, while a local run needs it.
        self._bundle, settings, info = describe_model(self._model, self._settings)
        share_model(self._bundle)
        refs = images | "ToReferences" >> beam.Map(as_ref)
        content = content_digest(self._bundle)
        embedded = refs | EmbedReferences(self._model, content, info, settings, uuid.uuid4().hex)
        model = images.pipeline | "Model" >> beam.Create([info], reshuffle=False)
        return {ROWS: embedded.rows, FAILURES: embedded.failures, "model": model}


class EmbedReferences(beam.PTransform):
    """Embed image references with a model that has been described already.

    Input: ``PCollection[ImageRef]``. Output: ``rows`` and ``failures`` of :class:`EmbedImages`.

    Args:
        model: as for :class:`EmbedImages`.
        content: digest of what the model's file holds, which has been tried.
        info: what the model must be: its digest, and that of all that happens to pixels.
        settings: threads, batch size, limits, backend, faces.
        run: a unique name of the run, for its progress.
    """

    def __init__(
        self, model: str, content: str, info: ModelInfo, settings: EmbedSettings, run: str
    ) -> None:
        super().__init__()
        self._dofn = _Embed(model, content, info, settings, run)

    def expand(self, refs: beam.PCollection) -> DoOutputsTuple:
        """Wire the embedding."""
        step = beam.ParDo(self._dofn).with_output_types(EmbeddingRow, failures=Failure)
        return refs | "Embed" >> step.with_outputs(FAILURES, main=ROWS)


def as_ref(image: str | ImageRef) -> ImageRef:
    """Return the reference of an image that is given by its path, URI or reference."""
    return image if isinstance(image, ImageRef) else local_ref(image)


class _Embed(beam.DoFn):
    def __init__(
        self, model: str, content: str, info: ModelInfo, settings: EmbedSettings, run: str
    ) -> None:
        self._model = model
        self._content = content
        self._info = info
        self._settings = settings
        self._run = run
        # A worker process may run several copies of this DoFn; they share one model.
        self._shared = Shared()
        # Their minimum and maximum tell on any runner when work began and when it ended.
        self._first_work = metrics.Stage(metrics.FIRST_WORK)
        self._last_image = metrics.Stage(metrics.EMBEDDED)

    def setup(self) -> None:
        self._embedder = self._shared.acquire(self._make_embedder, tag=self._info.digest)
        self._progress = progress_of(self._run)

    def _make_embedder(self) -> Embedder:
        model = open_model(self._model, self._info.digest, self._content)
        embedder = Embedder(model, self._settings)
        if embedder.info.preprocessing_digest != self._info.preprocessing_digest:
            embedder.close()
            raise BundleError(
                "this worker would crop faces differently from the launcher: its detector differs, "
                "or the detector's model file; install the same packages and files on both"
            )
        return embedder

    def start_bundle(self) -> None:
        # New for every bundle, so that nothing of a failed one leaks into the next.
        self._stream: BatchedStream[WindowedValue] = BatchedStream(
            self._embedder, self._settings.batch_size
        )
        self._first_work.mark()

    def process(
        self,
        ref: ImageRef,
        element: WindowedValue = beam.DoFn.WindowedValueParam,
        _window: object = beam.DoFn.WindowParam,  # each window of an element on its own
    ) -> Iterator[WindowedValue | TaggedOutput]:
        for image, result in self._stream.add(ref, element):
            yield self._output(image, result)

    def finish_bundle(self) -> Iterator[WindowedValue | TaggedOutput]:
        for image, result in self._stream.finish():
            yield self._output(image, result)

    def _output(self, image: WindowedValue, result: Result) -> WindowedValue | TaggedOutput:
        """Count a result and put it into the window of its image."""
        if isinstance(result, Failure):
            metrics.count(metrics.FAILED)
            metrics.count(metrics.failed_for(result.reason))
            self._progress.add(1, failed=1)
            return TaggedOutput(FAILURES, image.with_value(result))
        if result.face is None or result.face.index <= 0:  # an image counts once
            metrics.count(metrics.EMBEDDED)
            self._last_image.mark()
            self._progress.add(1)
        return image.with_value(result)
