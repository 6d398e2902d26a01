"""The course of a training as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence


def curves(figures: Sequence[Mapping[str, float]]) -> bytes:
    """Return a PNG file of loss, validation AUC and recall, spread and active share by epoch.

    Args:
        figures: of each epoch, those before the first one first.
    """
    from matplotlib.figure import Figure

    wanted = [name for name in ("loss", "auc", "recall", "spread", "active") if name in figures[-1]]
    canvas = Figure(figsize=(9, 2.2 * len(wanted)), layout="constrained")
    plots = canvas.subplots(len(wanted), 1, sharex=True, squeeze=False)[:, 0]
    for plot, name in zip(plots, wanted, strict=True):
        epochs = [number for number, each in enumerate(figures) if name in each]
        plot.plot(epochs, [figures[epoch][name] for epoch in epochs])
        plot.set_ylabel(name)
        plot.grid(alpha=0.3)
    plots[-1].set_xlabel("epoch")
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
