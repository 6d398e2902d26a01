"""Who uses the cores: threads of this process, or those of BLAS, which computes matrix products."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from featureid.parallel import available_cpus


@contextlib.contextmanager
def threads_beside_blas(threads: int) -> Iterator[int]:
    """Let BLAS use one thread, and yield how many threads of this process to use.

    Without the package threadpoolctl, of the extra ``search``, BLAS keeps its threads. They would
    wait for each other if several threads of this process used them, so that it is one.

    Args:
        threads: how many to use; 0 means one per CPU core.
    """
    try:
        package = importlib.import_module("threadpoolctl")
    except ImportError:
        yield 1
        return
    with package.threadpool_limits(1, "blas"):
        yield threads or available_cpus()
