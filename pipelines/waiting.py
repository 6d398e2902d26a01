"""Wait for a run that takes place elsewhere, and say in one line how it failed if it did."""

from __future__ import annotations

import signal

import grpc
from apache_beam.runners.runner import PipelineResult

from featureid.errors import FeatureIdError
from pipelines import console

_CAUSE_CHARACTERS = 300


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
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        result.cancel()
        raise
    except (RuntimeError, grpc.RpcError) as error:  # The job failed, or its server is gone.
        if console.as_known_error(error) is not None:
            raise
        cause = " ".join(str(error).split())[:_CAUSE_CHARACTERS]
        raise FeatureIdError(
            f"the run failed: {cause}; the logs of the runner and its workers tell more"
        ) from error
