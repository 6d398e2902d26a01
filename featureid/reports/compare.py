"""A report of a comparison: two images side by side, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

from featureid.reports.page import Group, Picture, Report, Section


def compare_report(
    images: Sequence[str], uris: Sequence[str], score: float, lines: Sequence[str]
) -> Report:
    """Return a report of a comparison.

    Args:
        images: what the two are called.
        uris: where they are.
        score: the cosine of the feature IDs that are compared.
        lines: what else is to be said.
    """
    pictures = [Picture(images[0], uris[0]), Picture(images[1], uris[1], score=score)]
    return Report(
        "Comparison", [Section("Images", groups=[Group("Both", pictures)])], notes=tuple(lines)
    )
