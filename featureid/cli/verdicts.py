"""Verdicts on scores by a calibration, shared by every command that compares feature IDs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import msgspec

from featureid.errors import UsageError
from featureid.evaluation.calibration import DIFFERENT, Calibration, Level, Share


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a calibration."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="what scores mean, by featureid calibrate; default: that of a snapshot, or the one "
        "that comes with the model",
    )


def described(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration for JSON, without the numbers of its cohort."""
    stored: dict[str, Any] = msgspec.to_builtins(calibration)
    kept = "name", "population", "levels", "different_percentiles", "seed", "samples"
    cohort = calibration.cohort
    return {
        **{name: stored[name] for name in kept},
        "cohort": {"images": cohort.images, "sha256": cohort.sha256} if cohort else None,
    }


def lines(calibration: Calibration, verdict: str) -> Iterator[str]:
    """Yield what a verdict means, and what it rests on."""
    level = calibration.level(verdict)
    lowest = calibration.levels[-1]
    if level is None:
        yield f"{DIFFERENT}: below {lowest.threshold:.4g}; {_shares(lowest)}"
    else:
        yield f"{level.name}: {level.threshold:.4g} or more; {_shares(level)}"
    yield f"this rests on {calibration.describe()}"


def _shares(level: Level) -> str:
    return (
        f"of pairs of different images or people {share_text(level.far)} score that much, of pairs "
        f"of the same one {share_text(level.tar)}"
    )


def share_text(share: Share) -> str:
    """Return a share in percent with its interval, or its upper bound if it is 0."""
    low, high = (100 * end for end in share.interval)
    if not share.value:
        return f"less than {high:.2g} %"
    return f"{100 * share.value:.3g} % ({low:.3g} to {high:.3g} %)"


def probability(calibration: Calibration, verdict: str, prior: float) -> float:
    """Return how probable it is that two feature IDs are of one person or image, by Bayes' rule.

    Args:
        calibration: gives the shares of the pairs that reach a level, or none.
        verdict: the level.
        prior: how probable it is before they are compared.

    Raises:
        UsageError: the prior is not between 0 and 1.
    """
    if not 0 < prior < 1:
        raise UsageError(f"`prior` is {prior}; give a probability between 0 and 1")
    level = calibration.level(verdict)
    # Where no error was seen, there may be as many as the interval says.
    if level is None:
        lowest = calibration.levels[-1]
        tar = lowest.tar.value if lowest.tar.value < 1 else lowest.tar.interval[0]
        same, different = 1 - tar, 1 - lowest.far.value
    else:
        same, different = level.tar.value, level.far.value or level.far.interval[1]
    return same * prior / (same * prior + different * (1 - prior))
