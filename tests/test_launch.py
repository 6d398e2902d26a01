"""How waiting for a run on another machine ends."""

import os
import signal
import threading
from collections.abc import Callable

import grpc
import pytest

from featureid.errors import FeatureIdError
from featureid.jobs.launch import start_elsewhere, wait_for_end


class Result:
    """A runner's result whose wait ends in a given way."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait_until_finish = wait
        self.canceled = False

    def cancel(self) -> None:
        self.canceled = True


def failing(message: str) -> Result:
    def wait() -> None:
        raise RuntimeError(message)

    return Result(wait)


def test_a_run_that_is_done_says_nothing() -> None:
    wait_for_end(Result(lambda: "DONE"))


def test_a_failure_names_the_first_and_last_line_of_its_cause() -> None:
    message = "java.lang.Exception: lost\n\tat org.Class(Class.java:1)\nCaused by: x\n\t... 3 more"
    with pytest.raises(FeatureIdError) as caught:
        wait_for_end(failing(message))
    assert "failed: java.lang.Exception: lost: Caused by: x; see the logs" in str(caught.value)
    with pytest.raises(FeatureIdError, match="failed: canceled; see the logs"):
        wait_for_end(failing("canceled"))


def test_a_job_server_that_does_not_answer_is_named() -> None:
    class Pipeline:
        def run(self) -> None:
            raise grpc.FutureTimeoutError

    with pytest.raises(FeatureIdError, match="submitted: no answer from the job server; check"):
        start_elsewhere(Pipeline())  # A real one waits for minutes.


def test_an_error_of_ours_stays_as_it_is() -> None:
    message = "Error\nfeatureid.errors.StorageError: Cannot write a: No space left\n"
    with pytest.raises(RuntimeError, match="Cannot write a"):
        wait_for_end(failing(message))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_being_interrupted_or_terminated_cancels_the_run(number: signal.Signals) -> None:
    def wait() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    result = Result(wait)
    with pytest.raises(KeyboardInterrupt):
        wait_for_end(result)
    assert result.canceled


def fail_in_threads() -> None:
    for name in ("wait_until_finish_read", "another"):
        thread = threading.Thread(name=name)
        threading.excepthook(threading.ExceptHookArgs((ValueError, ValueError(name), None, thread)))


def test_of_other_threads_only_beams_reader_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    wait_for_end(Result(fail_in_threads))
    assert [failure.thread and failure.thread.name for failure in failed] == ["another"]


def test_handlers_and_hooks_are_restored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers], threading.excepthook
    wait_for_end(Result(lambda: "DONE"))
    with pytest.raises(FeatureIdError):
        wait_for_end(failing("lost"))
    assert ([signal.getsignal(number) for number in numbers], threading.excepthook) == before
