"""Beam's own options: strict about misspelt ones, and local runs kept on one engine, offline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from featureid.errors import UsageError

_LOCAL_RUNNERS = ("DirectRunner", "direct", "DirectPipelineRunner")


def split_beam_options(argv: Sequence[str]) -> tuple[PipelineOptions, list[str]]:
    """Part a command line into Beam's options and the rest, which keeps its order.

    Unlike ``PipelineOptions(argv)`` this loses no unknown option, so that the caller's parser
    refuses a misspelt one, and never takes an option's value for a positional argument.

    Raises:
        UsageError: a Beam option has an unusable value.
    """
    parser = _BeamOptionsParser(allow_abbrev=False, add_help=False)
    for options_class in PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    given, rest = parser.parse_known_args(list(argv))
    defaults, _ = parser.parse_known_args([])
    chosen = {
        name: value for name, value in vars(given).items() if value != getattr(defaults, name)
    }
    options = PipelineOptions.from_dictionary(chosen)
    if is_local(options):
        # Beam's direct runner first tries to download another engine, Prism, and so behaves
        # differently online and offline. With this option set (to the version in use, which
        # changes nothing else) it always takes the in-process engine.
        options = PipelineOptions.from_dictionary(
            {**chosen, "runner": "DirectRunner", "update_compatibility_version": beam.__version__}
        )
    return options, rest


def is_local(options: PipelineOptions) -> bool:
    """Whether the run takes place on this machine, in Beam's direct runner."""
    runner = options.view_as(StandardOptions).runner
    return runner is None or runner in _LOCAL_RUNNERS


class _BeamOptionsParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"Beam option: {message}")
