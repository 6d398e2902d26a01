"""The plan job: estimate an embed run without writing anything."""

from __future__ import annotations

from dataclasses import replace

from featureid.errors import FeatureIdError
from featureid.estimate import Estimate, Listing, embed_sample, estimate, plan_sources
from featureid.inputs import check_sources
from featureid.jobs.embed import describe_run
from featureid.jobs.options import EmbedOptions
from featureid.storage.records import ModelInfo
from featureid.storage.safeguards import check_current, check_missing


def plan(options: EmbedOptions, sample_size: int) -> Estimate:
    """Estimate what embedding with these options would do and cost on this machine.

    Args:
        options: as for :func:`featureid.jobs.embed.run`; ``output`` may be empty.
        sample_size: minimum number of images to embed as a sample.

    Raises:
        FeatureIdError: the inputs, the previous snapshot or the model cannot be used.
    """
    options = replace(options, sources=check_sources(options.sources))
    options, model, info, previous = describe_run(options)
    listing = plan_sources(options.sources, previous, options.refresh.policy)
    sample = embed_sample(listing.images, model, options.settings, sample_size)
    found = estimate(listing, sample, info, previous, options.num_shards is not None)
    return replace(found, stopped=_why_stopped(options, info.model, listing))


def _why_stopped(options: EmbedOptions, model: ModelInfo, listing: Listing) -> str:
    """Return why the run would stop before it publishes; "" if it would not."""
    changes, safeguards = listing.changes, options.safeguards
    try:
        check_missing([listing.missing], listing.found, changes.previous, safeguards)
        if options.output:
            check_current(options.output, model, safeguards, changes.images)
    except FeatureIdError as error:
        return str(error)
    return ""
