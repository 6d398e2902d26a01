"""Start a run that takes place elsewhere, wait for it, say in one line how it failed if it did."""

from __future__ import annotations

import contextlib
import signal
import threading

import apache_beam as beam
import grpc
from apache_beam.runners.runner import PipelineResult

from featureid.errors import FeatureIdError
from featureid.jobs.beam_errors import as_known_error

_CAUSE_CHARACTERS = 300


def start_elsewhere(pipeline: beam.Pipeline) -> PipelineResult:
    """Hand a run to its runner.

    Raises:
        FeatureIdError: the runner cannot be reached, or refuses.
    """
    try:
        return pipeline.run()
    except Exception as error:  # Each runner has errors of its own.
        if as_known_error(error) is not None:
            raise
        raise FeatureIdError(
            f"the run could not be submitted: {type(error).__name__}: {error}; check the runner's "
            "options, that it can be reached, and what you are allowed to do there"
        ) from error


def wait_for_end(result: PipelineResult) -> None:
    """Return when the run is done; being interrupted or terminated asks the runner to cancel it.

    Raises:
        FeatureIdError: it failed, or someone cancelled it.
        KeyboardInterrupt: this process was interrupted or terminated.
    """
    # Beam's own handler for interrupts first stops the job server, and then nobody could cancel
    # the job; and to be terminated would leave the job server running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    threading.excepthook = _other_thread_failed
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        with contextlib.suppress(grpc.RpcError):  # The job server may be gone already.
            result.cancel()
        raise
    except Exception as error:  # Each runner says with errors of its own that a job failed.
        if as_known_error(error) is not None:
            raise
        cause = _cause(str(error))
        raise FeatureIdError(
            f"the run failed: {cause}; the logs of the runner and its workers tell more"
        ) from error


def _other_thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Say nothing of Beam's reader of messages: the wait tells of what happened to the run."""
    if failure.thread is None or failure.thread.name != "wait_until_finish_read":
        threading.__excepthook__(failure)


def _cause(text: str) -> str:
    """The first line and the last that is none of a stack, where Java and Python say what it is."""
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.startswith(("at ", "... "))] or [""]
    ends = dict.fromkeys((telling[0], telling[-1]))
    return ": ".join(line.rstrip(":")[:_CAUSE_CHARACTERS] for line in ends)
