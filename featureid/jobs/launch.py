"""Run a pipeline here, or start it on another machine and wait; a failure becomes one line."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.utils.shared import Shared

from featureid.errors import FeatureIdError, UsageError
from featureid.jobs.beam_errors import as_known_error
from featureid.jobs.beam_options import is_local
from featureid.progress import Progress
from featureid.storage.run_writer import RunWriter

_CAUSE_CHARACTERS = 300
#: What a gRPC channel that finds no server raises says nothing.
_WITHOUT_TEXT = "no answer from the job server"

#: Shows progress for as long as the context lasts.
Watch = Callable[[Progress], contextlib.AbstractContextManager[None]]


def nowhere(_: Progress) -> contextlib.AbstractContextManager[None]:
    """Show no progress."""
    return contextlib.nullcontext()


def launch(
    pipeline: beam.Pipeline,
    writer: RunWriter,
    build: Callable[[], object],
    progress: Progress,
    watch: Watch | None,
) -> PipelineResult:
    """Begin a run, and start its pipeline; nothing is left of it if that fails.

    Args:
        pipeline: an empty pipeline.
        writer: what the run writes.
        build: adds the steps of the run, which publish it, once it has begun.
        progress: of the run.
        watch: shows the progress of a local run; None not to wait for the end of a run elsewhere.

    Raises:
        FeatureIdError: the run cannot begin, or failed; nothing is published then.
    """
    with writer.running():
        build()
        if is_local(pipeline.options):
            with (watch or nowhere)(progress):
                return run_here(pipeline)
        result = start_elsewhere(pipeline)
    # From here on the run may go on without this process, so that nothing is taken back.
    if watch is not None:
        wait_for_end(result)
    return result


def check_continues(options: PipelineOptions) -> None:
    """Check that a run can be left to its runner.

    Raises:
        UsageError: the runner ends with this process.
    """
    if is_local(options):
        raise UsageError(
            "a local run ends with its command; to leave a run to its runner, name one that "
            "continues, such as `runner=DataflowRunner`"
        )


@dataclass(frozen=True)
class ResultSubmission:
    """A submitted run that publishes a result and continues without this process.

    Attributes:
        result: the id of the result that it will publish.
        folder: of that result.
        job: the runner's id of the job; None if it gives none.
    """

    result: str
    folder: str
    job: str | None


def job_of(result: PipelineResult) -> str | None:
    """Return the runner's id of a job that has been submitted; None if it gives none."""
    # Dataflow's result has a job, but in a template's launcher, where the service starts it later.
    return result.job_id() if getattr(result, "has_job", False) else None


def run_here(pipeline: beam.Pipeline) -> PipelineResult:
    """Run a pipeline in this process to its end."""
    try:
        result = pipeline.run()
        result.wait_until_finish()
        return result
    finally:
        # Beam keeps the object last acquired through a Shared in memory: here the model and its
        # threads. Acquiring something small in its place releases them.
        Shared().acquire(threading.Event)


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
        cause = f"{type(error).__name__}: {error}" if str(error) else _WITHOUT_TEXT
        raise FeatureIdError(
            f"the run could not be submitted: {cause}; check the runner's options, that it can be "
            "reached, and what you are allowed to do there"
        ) from error


def wait_for_end(result: PipelineResult) -> None:
    """Return when the run is done; an interrupt, SIGTERM or SIGHUP asks the runner to cancel it.

    Raises:
        FeatureIdError: it failed, or was canceled.
        KeyboardInterrupt: this process was interrupted or terminated.
    """
    try:
        with _own_handlers():
            result.wait_until_finish()
    except KeyboardInterrupt:
        with contextlib.suppress(grpc.RpcError):  # The job server may be gone already.
            result.cancel()
        raise
    except Exception as error:  # Each runner has its own errors for a failed job.
        if as_known_error(error) is not None:
            raise
        cause = _cause(str(error))
        raise FeatureIdError(
            f"the run failed: {cause}; see the logs of the runner and its workers"
        ) from error


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, and keep Beam's message thread quiet.

    Beam's own handler for interrupts first stops the job server, after which nobody could cancel
    the job; and SIGTERM would leave the job server running.
    """
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if in_main else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    hook = threading.excepthook

    def quiet(failure: threading.ExceptHookArgs) -> None:
        # The wait itself reports what happened to the run.
        if failure.thread is None or failure.thread.name != "wait_until_finish_read":
            hook(failure)

    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    threading.excepthook = quiet
    try:
        yield
    finally:
        threading.excepthook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _cause(text: str) -> str:
    """Return the first line and the last line that is not part of a traceback."""
    lines = [line.strip() for line in text.splitlines()]
    telling = [line for line in lines if line and not line.startswith(("at ", "... "))] or [""]
    ends = dict.fromkeys((telling[0], telling[-1]))
    return ": ".join(line.rstrip(":")[:_CAUSE_CHARACTERS] for line in ends)
