"""Plots of an evaluation, by matplotlib."""

from __future__ import annotations

import importlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.evaluation.figures import Evaluation
from featureid.evaluation.roc import FARS
from featureid.storage import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

FORMATS = ("png", "svg")
_BINS = 80
_INCHES = 6, 4.5


def check_matplotlib() -> None:
    """Check that plots can be made.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise UsageError(
            "a `report` needs matplotlib; run: pip install 'featureid[report]'"
        ) from error


def svg_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Return what each plot shows -> the plot as SVG.

    Raises:
        UsageError: matplotlib is not installed.
    """
    return {
        "true-accept rate by false-accept rate": _rendered(_draw_curve, evaluation, "svg"),
        "scores of pairs of one class and of two": _rendered(_draw_scores, evaluation, "svg"),
    }


def write_plots(folder: str, evaluation: Evaluation) -> list[str]:
    """Write ``roc`` and ``scores`` as PNG and SVG into a folder; return their places.

    Raises:
        StorageError: they cannot be written.
        UsageError: matplotlib is not installed.
    """
    places = []
    for name, draw in (("roc", _draw_curve), ("scores", _draw_scores)):
        for form in FORMATS:
            places.append(files.join(folder, f"{name}.{form}"))
            files.write_atomic(places[-1], [_rendered(draw, evaluation, form)])
    return places


def _rendered(draw: Any, evaluation: Evaluation, form: str) -> bytes:
    check_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    draw(figure.subplots(), evaluation)
    out = BytesIO()
    # Without a date, the same evaluation gives the same bytes.
    figure.savefig(out, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()


def _draw_curve(axes: Axes, evaluation: Evaluation) -> None:
    curve = evaluation.curve
    axes.plot(curve.far, curve.tar, drawstyle="steps-post", color="tab:blue")
    for rate in evaluation.rates:
        if rate.tar is not None:
            low, high = rate.tar.interval
            axes.plot([rate.far, rate.far], [low, high], color="tab:orange", marker="_")
            axes.plot(rate.far, rate.tar.value, color="tab:orange", marker="o")
    axes.set_xscale("log")
    axes.set_xlim(max(min(FARS) / 2, 0.5 / curve.different_total), 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false-accept rate")
    axes.set_ylabel("true-accept rate")
    axes.set_title(f"AUC {evaluation.auc.value:.4f}, EER {evaluation.eer.value:.4f}")
    axes.grid(alpha=0.3)


def _draw_scores(axes: Axes, evaluation: Evaluation) -> None:
    curve = evaluation.curve
    there = curve.thresholds >= -1
    edges = np.linspace(curve.thresholds[there].min(), curve.thresholds.max(), _BINS + 1)
    for name, accepted in (("same", curve.same), ("different", curve.different)):
        counts = np.diff(accepted, prepend=0)[there]
        shares, _ = np.histogram(curve.thresholds[there], edges, weights=counts / counts.sum())
        axes.stairs(shares, edges, fill=True, alpha=0.5, label=f"{name} class")
    axes.set_xlabel("score")
    axes.set_ylabel("share of the pairs")
    axes.legend()
