"""A report of an evaluation: its figures, its plots, and the hardest pairs with their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from featureid.evaluation.figures import Evaluation, Figure, HardPair
from featureid.evaluation.report import svg_plots
from featureid.reports.page import Group, Picture, Plot, Report, Section, Table


def evaluation_report(
    found: Evaluation,
    locate: Callable[[str], str | None],
) -> Report:
    """Return a report of an evaluation.

    Args:
        found: the figures.
        locate: returns where an image is; None if that is not known.
    """
    plots = [Plot(svg, text) for text, svg in svg_plots(found).items()]
    hardest = (
        ("of one class, which score low", found.hardest_same),
        ("of two classes, which score high", found.hardest_different),
    )
    return Report(
        "Evaluation",
        [
            Section("Figures", facts=_facts(found), tables=(_rates(found),), plots=tuple(plots)),
            *(
                Section(f"Hardest pairs {what}", groups=_pairs(pairs, locate))
                for what, pairs in hardest
                if pairs
            ),
        ],
    )


def _facts(found: Evaluation) -> tuple[tuple[str, str], ...]:
    figures = {
        "AUC": found.auc,
        "EER": found.eer,
        "Accuracy": found.accuracy,
        "Rank-1": found.rank1,
        f"Precision at {found.k}": found.precision,
    }
    return (
        ("Classes", f"{found.classes:,}"),
        ("Pairs", f"{found.same_pairs:,} of one class, {found.different_pairs:,} of two"),
        *((name, _text(figure)) for name, figure in figures.items() if figure is not None),
    )


def _rates(found: Evaluation) -> Table:
    rows = [
        (
            f"{rate.far:g}",
            _text(rate.tar),
            _threshold(rate.threshold),
        )
        for rate in found.rates
    ]
    return Table(("False-accept rate", "True-accept rate", "Threshold"), rows)


def _threshold(threshold: float | None) -> str:
    return "" if threshold is None else f"{threshold:.4f}"


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "too few pairs"
    low, high = figure.interval
    return f"{figure.value:.4f} ({low:.4f} to {high:.4f})"


def _pairs(pairs: Sequence[HardPair], locate: Callable[[str], str | None]) -> Iterator[Group]:
    for number, pair in enumerate(pairs, 1):
        pictures = [
            Picture(pair.first, locate(pair.first)),
            Picture(pair.second, locate(pair.second), score=pair.score),
        ]
        yield Group(f"Pair {number}", pictures)
