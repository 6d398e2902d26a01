"""How a run that takes place elsewhere ends, as the result of any runner tells it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from featureid.errors import FeatureIdError
from featureid.jobs.launch import wait_for_end


class Result:
    """A runner's result whose wait ends in a given way."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait_until_finish = wait
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def failing(message: str) -> Result:
    def wait() -> None:
        raise RuntimeError(message)

    return Result(wait)


def test_a_run_that_is_done_says_nothing() -> None:
    wait_for_end(Result(lambda: "DONE"))


def test_a_failure_is_told_by_its_first_and_last_words() -> None:
    message = "java.lang.Exception: lost\n\tat org.Class(Class.java:1)\nCaused by: x\n\t... 3 more"
    with pytest.raises(FeatureIdError) as caught:
        wait_for_end(failing(message))
    assert "failed: java.lang.Exception: lost: Caused by: x; the logs" in str(caught.value)
    with pytest.raises(FeatureIdError, match="failed: cancelled; the logs"):
        wait_for_end(failing("cancelled"))


def test_an_error_of_ours_stays_as_it_is() -> None:
    message = "Error\nfeatureid.errors.StorageError: Cannot write a: No space left\n"
    with pytest.raises(RuntimeError, match="Cannot write a"):
        wait_for_end(failing(message))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_interrupted_or_terminated_cancels_the_run(number: signal.Signals) -> None:
    def wait() -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    result = Result(wait)
    with pytest.raises(KeyboardInterrupt):
        wait_for_end(result)
    assert result.cancelled


def test_of_other_threads_only_beams_reader_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    wait_for_end(Result(lambda: "DONE"))
    for name in ("wait_until_finish_read", "another"):
        error = ValueError(name)
        thread = threading.Thread(name=name)
        threading.excepthook(threading.ExceptHookArgs((ValueError, error, None, thread)))
    err = capsys.readouterr().err
    assert "ValueError: another" in err and "wait_until_finish_read" not in err
