"""List the images of all inputs, each key once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from featureid.inputs import ImageRef, InputSource, list_source
from featureid.storage.records import Failure
from featureid.transforms.progress import PROGRESS


class ListImages(beam.PTransform):
    """Input sources to image references.

    Input: ``PCollection[InputSource]``.
    Output: a mapping with ``images``, a ``PCollection[ImageRef]`` of unique keys, spread over the
    workers, ``failures``, a ``PCollection[Failure]`` of what could not be listed, and
    ``num_images``, a ``PCollection[int]`` of one number: what was listed, duplicates included.
    """

    def expand(self, sources: beam.PCollection) -> dict[str, beam.PCollection]:
        """Wire the listing."""
        listed = sources | "List" >> beam.ParDo(_List()).with_outputs("failures", main="images")
        # To group by key drops what two inputs both name, and spreads the work as a reshuffle does.
        images = (
            listed.images
            | "KeyByImageKey"
            >> beam.Map(lambda ref: (ref.key, ref)).with_output_types(tuple[str, ImageRef])
            | "GroupByImageKey" >> beam.GroupByKey()
            | "TakeOne" >> beam.MapTuple(_take_one).with_output_types(ImageRef)
        )
        return {
            "images": images,
            "failures": listed.failures,
            "num_images": listed.images | "CountImages" >> beam.combiners.Count.Globally(),
        }


def _take_one(key: str, refs: Iterable[ImageRef]) -> ImageRef:
    return min(refs, key=lambda ref: (ref.uri, ref.version))


class _List(beam.DoFn):
    def __init__(self) -> None:
        self._listed = Metrics.counter("featureid", "listed")

    def process(self, source: InputSource) -> Iterator[ImageRef | beam.pvalue.TaggedOutput]:
        for item in list_source(source):
            if isinstance(item, Failure):
                yield beam.pvalue.TaggedOutput("failures", item)
            else:
                self._listed.inc()
                PROGRESS.add(listed=1)
                yield item
