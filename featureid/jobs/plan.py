"""The plan job: estimate an embed run without writing anything."""

from __future__ import annotations

from dataclasses import replace

from featureid.errors import FeatureIdError
from featureid.estimate import Estimate, embed_sample, estimate, plan_sources
from featureid.inputs import check_source
from featureid.jobs.embed import describe_run
from featureid.jobs.options import EmbedOptions
from featureid.jobs.previous import find_previous
from featureid.refresh import check_deleted


def plan(options: EmbedOptions, sample_size: int) -> Estimate:
    """Estimate what embedding with these options would do and cost on this machine.

    Args:
        options: as for :func:`featureid.jobs.embed.run`; ``output`` may be empty.
        sample_size: minimum number of images to embed as a sample.

    Raises:
        FeatureIdError: the inputs, the previous snapshot or the model cannot be used.
    """
    for source in options.sources:
        check_source(source)
    options, model, info = describe_run(options)
    previous = find_previous(options.refresh, options.output, info.model)
    images, changes, unlisted = plan_sources(options.sources, previous, options.refresh.policy)
    sample = embed_sample(images, model, options.settings, sample_size)
    fixed = options.num_shards is not None
    found = estimate(len(images), changes, unlisted, sample, info, previous, fixed)
    try:
        check_deleted(changes, options.refresh.policy.max_deleted)
    except FeatureIdError as error:
        found = replace(found, stopped=str(error))
    return found
