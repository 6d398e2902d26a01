"""Keep out of a good run what libraries write to standard error without asking."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise

from featureid.jobs.beam_errors import as_known_error, is_interrupt
from featureid.masking import masked_log

_STDERR = 2


@contextlib.contextmanager
def quiet_libraries(argv: Sequence[str]) -> Iterator[None]:
    """Show what libraries write to file descriptor 2 only if the block ends in an unexpected error.

    LiteRT, libtiff and the worker processes that Beam starts write there, past Python's logging.
    Until the block ends they write into a temporary file instead; ``sys.stderr`` still leads to the
    terminal or log, and so does the report of a crash. ``--log-level debug`` turns this off, and so
    does a caller that has replaced ``sys.stderr``.
    """
    wants_all = "--log-level=debug" in argv or ("--log-level", "debug") in pairwise(argv)
    if sys.stderr is not sys.__stderr__ or wants_all:
        yield
        return
    with tempfile.TemporaryFile() as kept, _moved_stderr(kept.fileno()):
        try:
            yield
        except Exception as error:
            if as_known_error(error) is None and not is_interrupt(error):
                kept.seek(0)
                said = masked_log(kept.read().decode(errors="replace"))
                print(said, end="", file=sys.stderr)
            raise


@contextlib.contextmanager
def _moved_stderr(target: int) -> Iterator[None]:
    """Let file descriptor 2 lead to ``target``, and ``sys.stderr`` where descriptor 2 has led."""
    stream = sys.stderr
    stream.flush()
    own = os.dup(_STDERR)
    # Not closed: a thread that outlives the block may still log.
    sys.stderr = os.fdopen(own, "w", 1, encoding=stream.encoding, errors=stream.errors)
    faulthandler.enable(sys.stderr)
    os.dup2(target, _STDERR)
    try:
        yield
    finally:
        os.dup2(own, _STDERR)
        faulthandler.disable()
        sys.stderr = stream
