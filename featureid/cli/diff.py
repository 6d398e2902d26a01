"""``featureid diff``: what differs between two snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from featureid.cli import console, report_option
from featureid.difference import Difference, diff_snapshots
from featureid.reports.diff import diff_report
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import first_difference

_IMAGE = ("a changed image", "the same image")
#: What a comparison shows of a row that both have, changed and the same; and how it was made.
_COMPARISONS = {
    "sha256": (_IMAGE, "compared by SHA-256"),
    "source_version": (_IMAGE, "compared by source version, as not both have a SHA-256"),
    "vector": (
        ("another vector", "the same vector"),
        "vectors compared, as not both have a SHA-256 or source version",
    ),
}
_NOT_COMPARED = (
    "whether their images have changed is not known: not both have a SHA-256 or source version, "
    "and vectors of different models cannot be compared"
)


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description="Show how two snapshots differ.")
    parser.add_argument("first", metavar="A", help="output folder, or one snapshot's folder")
    parser.add_argument("second", metavar="B", help="the newer one")
    parser.add_argument(
        "--k",
        type=int,
        default=10,
        metavar="K",
        help="neighbors to compare if the models differ; default: %(default)s",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=2000,
        metavar="N",
        help="rows to compare neighbors of; default: %(default)s",
    )
    report_option.add_argument(parser)
    report_option.add_root(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Compare two snapshots; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    report_option.check(arguments)
    first, second = open_snapshot(arguments.first), open_snapshot(arguments.second)
    found = diff_snapshots(first, second, arguments.k, arguments.sample)
    statement = _statement(found, first, second)
    result = {
        "first": _named(first),
        "second": _named(second),
        **asdict(found),
        "statement": statement,
    }
    lines = _lines(found, first, second, statement)
    if arguments.report:
        report = diff_report(found, first, second, lines, arguments.root)
        lines.append(report_option.write(arguments.report, report))
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _named(snapshot: Snapshot) -> dict[str, str]:
    return {"snapshot": snapshot.manifest.info.snapshot, "folder": snapshot.folder}


def _lines(found: Difference, first: Snapshot, second: Snapshot, statement: str) -> list[str]:
    lines = [
        f"A  {first.folder}: {first.num_rows} rows",
        f"B  {second.folder}: {second.num_rows} rows",
        f"{found.added} added, {found.removed} removed, {_of_shared(found)}",
    ]
    for what, keys in found.examples.items():
        lines += [f"  {what}: {key}" for key in keys]
    if found.cosine_percentiles:
        percentiles = found.cosine_percentiles.items()
        values = ", ".join(f"{p} % {value:.4f}" for p, value in percentiles)
        lines.append(f"cosine similarity of shared rows, percentiles: {values}")
        lines.append(
            f"{found.identical_vectors} of {found.shared} shared vectors are equal bit for bit"
        )
    if found.overlap is not None:
        lines.append(
            f"{found.overlap:.1%} of the {found.k} nearest neighbors are the same, "
            f"in a sample of {found.sampled_rows} rows"
        )
    return [*lines, statement]


def _of_shared(found: Difference) -> str:
    """Return what has become of the rows that both have, and how that is known."""
    if found.compared_by is None:
        return f"{found.shared} in both; {_NOT_COMPARED}"
    (changed, same), how = _COMPARISONS[found.compared_by]
    return f"{found.changed} with {changed}, {found.same} with {same} ({how})"


def _statement(found: Difference, first: Snapshot, second: Snapshot) -> str:
    """Return what the difference means for users of the vectors."""
    reason = first_difference(first.model, second.model)
    if reason is None:
        return "The models are the same: vectors of both snapshots can be compared."
    statement = (
        f"The models differ (A {first.model.name!r}, B {second.model.name!r}; {reason[0]} "
        f"{reason[1]}, {reason[2]}): vectors of one must never be compared with those of the "
        "other. Rebuild galleries, queries and stored codes together, and choose thresholds again."
    )
    if found.overlap is not None:
        statement += f" {1 - found.overlap:.1%} of the top-{found.k} neighbors differ."
    return statement
