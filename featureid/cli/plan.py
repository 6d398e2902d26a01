"""``featureid plan``: estimate what ``featureid embed`` with the same options will do and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from featureid.cli import console
from featureid.cli.embed_options import embed_options
from featureid.cli.embed_options import make_parser as make_embed_parser
from featureid.durations import duration_text
from featureid.estimate import Estimate
from featureid.jobs.beam_options import split_beam_options
from featureid.jobs.plan import plan

_SAMPLE = 300
_DESCRIPTION = """Estimate time, memory and output size of an embed run with the same options on
this machine, from the listing and a sample of the images. Nothing is written."""


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command, Beam's options not included."""
    parser = make_embed_parser(prog, _DESCRIPTION)
    sample = "minimum number of images to try; default: %(default)s"
    parser.add_argument("--sample", type=int, default=_SAMPLE, metavar="N", help=sample)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Estimate a run; return the exit status."""
    _, own = split_beam_options(argv)
    arguments = console.parse(make_parser(prog), own)
    found = plan(embed_options(arguments), arguments.sample)
    console.print_result(asdict(found), arguments.json, _lines(found))
    return console.DONE


def _lines(found: Estimate) -> list[str]:
    changes = ", ".join(f"{number} {name}" for name, number in found.changes.items())
    lines = [
        f"{found.images} images: {changes}",
        *(f"cannot be listed: {folder}" for folder in found.unlisted),
        f"to embed       {found.to_embed}, {found.sampled} of them tried",
        f"rate           {found.images_per_s:.1f} images/s on this machine",
        f"wall time      {duration_text(timedelta(seconds=found.wall_s))}",
        f"memory         {found.peak_mb:.0f} MB here; {found.worker_mb:.0f} MB for a worker",
        f"output         {found.rows} rows, {found.bytes / 1e6:.2f} MB in "
        f"{found.num_shards} shards",
        f"failures       about {sum(found.failures_by_reason.values())}",
        *(f"  {count:8d}  {reason}" for reason, count in found.failures_by_reason.items()),
    ]
    return [*lines, *([f"the run would stop: {found.stopped}"] if found.stopped else [])]
