"""Beam's own options: misspelled ones are refused, local runs use one engine, offline."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.transforms.resources import parse_resource_hints

from featureid.errors import UsageError
from featureid.jobs.worker_pool import TOKEN_PARAMETER, TOKEN_VARIABLE
from featureid.masking import is_secret_name
from featureid.storage.files import expand_home

_LOG = logging.getLogger(__name__)
_LOCAL_RUNNERS = ("directrunner", "switchingdirectrunner", "testdirectrunner", "fnapirunner")
_RUNNERS_WITH_FLINK_OPTIONS = ("flinkrunner", "portablerunner")
# Workers import it before they begin. Otherwise their threads, each unpickling a step, import parts
# of the package at the same time, and one ends with Python's deadlock error (seen on Flink).
_WORKER_IMPORTS = "featureid.transforms"


def split_beam_options(argv: Sequence[str]) -> tuple[PipelineOptions, list[str]]:
    """Split a command line into Beam's options and the rest, which keeps its order.

    Unlike ``PipelineOptions(argv)`` this drops no unknown option, so that the caller's parser can
    refuse a misspelled one, and never takes an option's value for a positional argument. Options
    that hold secrets are left out: nothing here needs them, while runners show the options of their
    jobs, and workers log them.

    Raises:
        UsageError: a Beam option has an unusable value.
    """
    parser = _BeamOptionsParser(allow_abbrev=False, add_help=False)
    parser.register("type", None, expand_home)
    for options_class in PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    given, rest = parser.parse_known_args(list(argv))
    defaults, _ = parser.parse_known_args([])
    chosen = {
        name: value for name, value in vars(given).items() if value != getattr(defaults, name)
    }
    _leave_out_secrets(chosen)
    options = PipelineOptions.from_dictionary(chosen)
    _check_flink_options(options, chosen)
    if is_local(options):
        # Beam's direct runner first tries to download another engine, Prism, and so behaves
        # differently online and offline. With this option set (to the version in use, which
        # changes nothing else) it always takes the in-process engine.
        options = PipelineOptions.from_dictionary(
            {**chosen, "runner": "DirectRunner", "update_compatibility_version": beam.__version__}
        )
    setup = options.view_as(SetupOptions)
    setup.beam_plugins = [*(setup.beam_plugins or []), _WORKER_IMPORTS]
    _pass_token(options.view_as(PortableOptions))
    return options, rest


def _leave_out_secrets(chosen: dict[str, Any]) -> None:
    for name in [*filter(is_secret_name, chosen)]:
        del chosen[name]
        _LOG.warning(
            "--%s is left out: featureid does not use it, and all users of a machine can see "
            "command lines. Credentials come from the environment or a client's own files",
            name,
        )


def _pass_token(options: PortableOptions) -> None:
    """Let the runner send the worker pool the token in this process's environment, if any."""
    token, config = os.environ.get(TOKEN_VARIABLE), options.environment_config
    if not token or not config or (options.environment_type or "").upper() != "EXTERNAL":
        return
    try:
        pool = json.loads(config) if config.lstrip().startswith("{") else {"url": config}
        pool["params"] = {TOKEN_PARAMETER: token, **(pool.get("params") or {})}
    except (TypeError, ValueError) as error:
        raise UsageError(
            "--environment_config is not valid JSON; give HOST:PORT of the worker pool"
        ) from error
    options.environment_config = json.dumps(pool)


def is_local(options: PipelineOptions) -> bool:
    """Return whether the run takes place on this machine, in Beam's direct runner."""
    return _runner(options) in _LOCAL_RUNNERS


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """Return an empty pipeline for the runner that the options name.

    Raises:
        UsageError: Beam does not know or have the runner, or it lacks an option.
    """
    runner = options.view_as(StandardOptions).runner
    if _runner(options) == "portablerunner" and not options.view_as(PortableOptions).job_endpoint:
        raise UsageError(f"the runner {runner} cannot be used: add --job_endpoint=HOST:PORT")
    try:
        return beam.Pipeline(options=options)
    except Exception as error:  # What importing a runner raises depends on what is installed.
        cause = " ".join(str(error).split()).removeprefix("Pipeline has validations errors: ")
        raise UsageError(f"the runner {runner} cannot be used: {cause}") from error


def _runner(options: PipelineOptions) -> str:
    """Return the name of the runner as Beam looks it up, ``directrunner``."""
    name = (options.view_as(StandardOptions).runner or "DirectRunner").lower()
    if name.startswith("apache_beam."):
        name = name.rpartition(".")[2]
    return name if name.endswith("runner") else f"{name}runner"


def parse_hints(texts: Sequence[str]) -> dict[str, str]:
    """Return Beam's resource hints by name from texts ``NAME=VALUE``.

    Raises:
        UsageError: a text is not of that form, or Beam does not know the hint.
    """
    hints = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"`embed_hint` is {text!r}; give NAME=VALUE, such as min_ram=8GB")
        hints[name] = value
    try:
        parse_resource_hints(hints)
    except (TypeError, ValueError) as error:
        raise UsageError(f"`embed_hint`: {error}; see Beam's resource hints") from error
    return hints


class FlinkJobServerOptions(PipelineOptions):
    """Options of the Flink runner that only its job server knows, as far as batch jobs use them.

    Beam asks the job server for them when a job is submitted, too late to refuse a misspelled one.
    From Beam's table of Flink options; those that Beam's Python side knows are not repeated.
    """

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--number_of_execution_retries", type=int, help="retries of a failed task")
        add("--execution_retry_delay", type=int, help="milliseconds before a task is retried")
        add("--execution_mode_for_batch", help="PIPELINED, PIPELINED_FORCED, BATCH, BATCH_FORCED")
        add("--max_bundle_size", type=int, help="maximum number of elements in a bundle")
        add("--max_bundle_time_mills", type=int, help="maximum milliseconds of a bundle")
        add("--flink_conf_dir", help="folder of a Flink configuration for the job")
        add("--object_reuse", action="store_true", default=None)
        add("--faster_copy", action="store_true", default=None)
        add("--re_iterable_group_by_key_result", action="store_true", default=None)


def _check_flink_options(options: PipelineOptions, chosen: dict[str, Any]) -> None:
    if _runner(options) in _RUNNERS_WITH_FLINK_OPTIONS:
        return
    for name in FlinkJobServerOptions([]).get_all_options(current_only=True):
        if name in chosen:
            raise UsageError(f"--{name} is an option of Flink; add --runner=FlinkRunner")


class _BeamOptionsParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"Beam option: {message}")
