"""``featureid plan``: what ``featureid embed`` with the same options will do and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from featureid.errors import FeatureIdError
from featureid.inputs import check_source
from featureid.prediction import Prediction, embed_sample, plan_sources, predict
from featureid.refresh import check_deleted
from pipelines import console
from pipelines.beam_options import split_beam_options
from pipelines.embed import describe_run
from pipelines.embed_options import embed_options, make_parser
from pipelines.previous import find_previous

_SAMPLE = 300
_DESCRIPTION = """Foretell what embedding with the same options will do and cost on this machine,
from the listing and a sample of the images. Nothing is written."""


def run_command_line(argv: Sequence[str], prog: str) -> int:
    """Run the command; returns its exit status."""
    parser = make_parser(prog, _DESCRIPTION)
    least = "images to try, at least; default: %(default)s"
    parser.add_argument("--sample", type=int, default=_SAMPLE, metavar="N", help=least)
    _, own = split_beam_options(argv)
    arguments = parser.parse_args(own)
    console.set_up_log(arguments.log_level)
    options = embed_options(arguments)
    for source in options.sources:
        check_source(source)
    options, model, info = describe_run(options)
    previous = find_previous(options.refresh, options.output, info.model)
    images, changes, unlisted = plan_sources(options.sources, previous, options.refresh.policy)
    sample = embed_sample(images, model, options.settings, arguments.sample)
    fixed = options.num_shards is not None
    found = predict(len(images), changes, unlisted, sample, info, previous, fixed)
    try:
        check_deleted(changes, options.refresh.policy.max_deleted)
    except FeatureIdError as error:
        found = replace(found, stopped=str(error))
    console.print_result(asdict(found), arguments.json, _text(found))
    return console.DONE


def _text(found: Prediction) -> str:
    changes = ", ".join(f"{number} {name}" for name, number in found.changes.items())
    lines = [
        f"{found.images} images: {changes}",
        *(f"cannot be listed: {folder}" for folder in found.unlisted),
        f"to embed       {found.to_embed}, of which {found.sampled} were tried",
        f"rate           {found.images_per_s:.1f} images/s on this machine",
        f"wall time      {_duration(found.wall_s)}",
        f"memory         {found.peak_mb:.0f} MB here; {found.worker_mb:.0f} MB for a worker",
        f"output         {found.rows} rows, {found.output_bytes / 1e6:.2f} MB in "
        f"{found.num_shards} shards",
        f"failures       about {sum(found.failures_by_reason.values())}",
        *(f"  {count:8d}  {reason}" for reason, count in found.failures_by_reason.items()),
    ]
    return "\n".join([*lines, *([f"it would stop: {found.stopped}"] if found.stopped else [])])


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
