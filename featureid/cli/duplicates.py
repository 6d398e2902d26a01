"""``featureid duplicates``: group the images of a snapshot that look alike."""

from __future__ import annotations

import argparse
import csv
import io
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

from featureid.cli import console, report_option, verdicts
from featureid.errors import UsageError
from featureid.evaluation.calibration import Calibration, find_calibration
from featureid.images.pdq import MAX_DISTANCE
from featureid.keys import printable
from featureid.matching.collection import (
    Collection,
    joined_collections,
    mark_known,
    read_collection,
)
from featureid.matching.duplicates import (
    DEFAULT_THRESHOLD,
    DuplicateOptions,
    Duplicates,
    Group,
    Keep,
    Link,
    Method,
    find_duplicates,
)
from featureid.matching.histogram import Histogram, histogram_of
from featureid.matching.scores import check_comparable
from featureid.reports.duplicates import duplicates_report
from featureid.storage import files
from featureid.storage.reader import Snapshot, open_snapshot

_COLUMNS = ("group", "keep", "key", "face", "score", "hash_distance", "identical", "known", "uri")

# Characters of the longest bar of a histogram.
_BAR = 50


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Group the images of a snapshot that look alike."
    )
    add = parser.add_argument
    add("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    add(
        "--threshold",
        type=float,
        metavar="T",
        help="lowest score of a duplicate; default: that of the calibration, or "
        f"{DEFAULT_THRESHOLD}",
    )
    verdicts.add_argument(parser)
    add("--no-hash", action="store_true", help="leave out what only perceptual hashes tell")
    add("--prefix", default="", metavar="P", help="only images whose keys start with P")
    add(
        "--keep",
        choices=get_args(Keep),
        default="largest",
        help="image of a group to keep: most pixels, changed first, first of the known ones and by "
        "key, or first by key; default: %(default)s",
    )
    add(
        "--link",
        choices=get_args(Link),
        default="star",
        help="star: all are duplicates of the one that is kept; single: of any other; default: "
        "%(default)s",
    )
    add(
        "--method",
        choices=get_args(Method),
        default="auto",
        help="compare all pairs, or those that share a cell; default: by the number of rows",
    )
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--against", metavar="DIR2", help="only duplicates of images in DIR2")
    known.add_argument(
        "--since", metavar="SNAPSHOT", help="only duplicates of images that are new since SNAPSHOT"
    )
    add("--ignore-pairs", metavar="FILE", help="CSV of two keys a line that are no duplicates")
    add(
        "--histogram",
        action="store_true",
        help="show the scores of random pairs, and what they say",
    )
    report_option.add_argument(parser)
    report_option.add_root(parser)
    add("--csv", metavar="FILE", help="write one line per image into FILE")
    add("--script", metavar="FILE", help="write a shell script that moves all but the kept images")
    add("--move-to", metavar="FOLDER", help="where the script moves them; required with --script")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Find duplicates; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if bool(arguments.script) != bool(arguments.move_to):
        raise UsageError("give both `script` and `move_to`, or neither")
    report_option.check(arguments)
    snapshot = open_snapshot(arguments.snapshot)
    plain = "`method='cells'`" if arguments.method == "cells" else ""
    calibration = find_calibration(snapshot.model, arguments.calibration, snapshot, plain=plain)
    if arguments.threshold is None:
        arguments.threshold = calibration.levels[0].threshold if calibration else DEFAULT_THRESHOLD
    options = DuplicateOptions(
        arguments.threshold,
        arguments.keep,
        arguments.link,
        arguments.method,
        across=arguments.against is not None,
        ignored=_ignored(arguments.ignore_pairs),
    )
    rows, known = _rows(arguments, snapshot)
    cohort = calibration.opened_cohort() if calibration else None
    if cohort is not None:
        with console.counting("rows", len(rows)) as progress:
            rows = replace(rows, corrections=cohort.corrections(rows.vectors, progress))
    with console.counting("rows", int((rows.origin == 0).sum())) as progress:
        found = find_duplicates(rows, options, progress)
    places = [known if origin else snapshot for origin in rows.origin.tolist()]
    groups = [_described(group, rows) for group in found.groups]
    if arguments.csv:
        files.write_atomic(arguments.csv, [_table(groups, found, places).encode()])
    if arguments.script:
        lines = _script(found, rows, places, arguments.move_to)
        files.write_atomic(arguments.script, ["".join(f"{line}\n" for line in lines).encode()])
    result = {"groups": groups, **_counts(rows, found), "threshold": arguments.threshold}
    if rows.hashes is not None:
        result["max_hash_distance"] = MAX_DISTANCE
    if calibration:
        result |= _rates(calibration, arguments.threshold)
    if found.recall and found.recall.pairs:
        result["recall"] = round(found.recall.found / found.recall.pairs, 4)
    summary = [*_summary(result, found)]
    text = [*_lines(result, found), *summary]
    if arguments.histogram:
        histogram = histogram_of(rows, found, options)
        result["histogram"] = _bins(histogram)
        result |= {"pairs": histogram.pairs, "expected_false_pairs": histogram.false_pairs}
        text += _histogram_lines(histogram, arguments.threshold)
    if arguments.report:
        report = duplicates_report(found, rows, places, arguments.keep, summary, arguments.root)
        text.append(report_option.write(arguments.report, report))
    console.print_result(result, arguments.json, text)
    return console.DONE


def _rates(calibration: Calibration, threshold: float) -> dict[str, Any]:
    """Return how many pairs of different images reach a threshold, at most, if that is known."""
    levels = [level for level in calibration.levels if level.threshold <= threshold]
    if not levels:
        return {}
    far = levels[0].far
    return {
        "false_positive_rate": far.value or far.interval[1],
        "calibration": verdicts.described(calibration),
    }


def _ignored(file: str | None) -> frozenset[tuple[str, str]]:
    """Return the pairs of keys in a CSV file.

    Raises:
        UsageError: a line does not have two columns, or the file is not UTF-8.
    """
    if not file:
        return frozenset()
    try:
        text = files.read_bytes(file).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 (byte {error.start}); write it anew") from error
    pairs = set()
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for line in filter(None, reader):
            if len(line) != 2:
                raise UsageError(
                    f"{file}, line {reader.line_num}: {len(line)} columns; give two keys a line"
                )
            pairs.add((line[0], line[1]))
    except csv.Error as error:
        raise UsageError(f"{file}, line {reader.line_num}: not CSV: {error}") from error
    return frozenset(pairs)


def _rows(arguments: argparse.Namespace, snapshot: Snapshot) -> tuple[Collection, Snapshot]:
    """Return what is compared, and the snapshot that its known rows are in."""
    hashes = not arguments.no_hash
    rows = read_collection(snapshot, arguments.prefix, hashes=hashes)
    if arguments.against:
        other = open_snapshot(arguments.against)
        check_comparable(snapshot.model, snapshot.folder, other.model, other.folder)
        return joined_collections(rows, read_collection(other, origin=1, hashes=hashes)), other
    if arguments.since:
        before = open_snapshot(arguments.since)
        check_comparable(snapshot.model, snapshot.folder, before.model, before.folder)
        return mark_known(rows, read_collection(before, arguments.prefix)), snapshot
    return rows, snapshot


def _described(group: Group, rows: Collection) -> dict[str, Any]:
    members = []
    for member in group.members:
        described: dict[str, Any] = {"key": rows.keys[member.row]}
        if rows.faces[member.row] is not None:
            described["face"] = rows.faces[member.row]
        described |= {"score": round(member.score, 6), "identical": member.identical}
        if member.hash_distance is not None:
            described["hash_distance"] = member.hash_distance
        if rows.origin.any():
            described["known"] = bool(rows.origin[member.row])
        members.append(described)
    return {"keep": rows.keys[group.keep], "center": rows.keys[group.center], "members": members}


def _counts(rows: Collection, found: Duplicates) -> dict[str, int]:
    """Return how many images were compared, and how many are in groups and not kept."""
    more = [m.row for group in found.groups for m in group.members if m.row != group.keep]
    return {
        "images": len(
            {key for key, origin in zip(rows.keys, rows.origin, strict=True) if not origin}
        ),
        "duplicates": len({rows.keys[row] for row in more if not rows.origin[row]}),
    }


def _table(groups: list[dict[str, Any]], found: Duplicates, places: Sequence[Snapshot]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    table.writeheader()
    for number, (described, group) in enumerate(zip(groups, found.groups, strict=True)):
        for line, member in zip(described["members"], group.members, strict=True):
            table.writerow(
                {
                    "group": number,
                    "keep": member.row == group.keep,
                    "known": False,
                    **line,
                    "uri": places[member.row].uri(line["key"]),
                }
            )
    return out.getvalue()


def _script(
    found: Duplicates, rows: Collection, places: Sequence[Snapshot], folder: str
) -> Iterator[str]:
    """Yield a shell script that moves all images but the kept and the known ones.

    Raises:
        UsageError: an image is not on a local disk.
    """
    yield "#!/bin/sh"
    yield "# Made by featureid duplicates. Nothing is deleted, and no file is replaced."
    done = set()
    for group in found.groups:
        yield f"# kept: {printable(rows.keys[group.keep])}"
        for member in group.members:
            key = rows.keys[member.row]
            if key == rows.keys[group.keep] or rows.origin[member.row] or key in done:
                continue
            done.add(key)
            source = places[member.row].uri(key)
            if files.is_remote(source):
                raise UsageError(f"{source} is not on a local disk; a `script` moves local files")
            # A name such as ../a.jpg must not lead out of the folder.
            parts = [part for part in key.split("/") if part not in ("", ".", "..")]
            target = "/".join([folder.rstrip("/"), *parts])
            yield f"mkdir -p -- {shlex.quote(target.rpartition('/')[0])}"
            yield f"mv -n -- {shlex.quote(source)} {shlex.quote(target)}"


def _bins(histogram: Histogram) -> list[dict[str, float]]:
    """Return the bins from the first that has pairs to the last."""
    bounds = zip(histogram.edges[:-1], histogram.edges[1:], histogram.counts, strict=True)
    bins = [{"from": low, "to": high, "pairs": count} for low, high, count in bounds]
    filled = [number for number, count in enumerate(histogram.counts) if count]
    return bins[filled[0] : filled[-1] + 1] if filled else []


def _histogram_lines(histogram: Histogram, threshold: float) -> Iterator[str]:
    bins = _bins(histogram)
    most = max((bin_["pairs"] for bin_ in bins), default=0)
    yield f"scores of {histogram.sampled} random pairs that are in no group together:"
    for bin_ in bins:
        bar = "#" * math.ceil(_BAR * bin_["pairs"] / most)
        yield f"{bin_['from']:6.2f} to {bin_['to']:5.2f}  {bin_['pairs']:8.0f}  {bar}"
    if histogram.false_pairs is None:
        yield "there are too few pairs to say how many reach the threshold by chance"
    else:
        yield (
            f"of all {histogram.pairs} pairs, about {histogram.false_pairs:.2g} of different "
            f"images are expected to reach {threshold}"
        )


def _lines(result: dict[str, Any], found: Duplicates) -> Iterator[str]:
    limit = result.get("max_hash_distance")
    for described, group in zip(result["groups"], found.groups, strict=True):
        for member, row in zip(described["members"], group.members, strict=True):
            mark = "keep" if row.row == group.keep else "same bytes" * member["identical"]
            face = f", face {member['face']}" if "face" in member else ""
            known = "  (known)" if member.get("known") else ""
            bits = f"{console.bits_apart(member.get('hash_distance')):{10 if limit else 0}}"
            yield f"{member['score']:7.4f}  {bits}{mark:10}  {member['key']}{face}{known}"
        yield ""


def _summary(result: dict[str, Any], found: Duplicates) -> Iterator[str]:
    limit = result.get("max_hash_distance")
    yield (
        f"{result['duplicates']} of {result['images']} images are duplicates, in "
        f"{len(result['groups'])} groups, at a score of {result['threshold']} or more"
        + (f", or hashes that differ in {limit} bits or fewer" if limit else "")
    )
    if "false_positive_rate" in result:
        yield (
            f"measured for this model: at most {result['false_positive_rate']:.1g} of all pairs of "
            f"different ones score so high ({result['calibration']['name']})"
        )
    if found.recall and found.recall.pairs:
        yield (
            f"not all pairs were compared: of {found.recall.pairs} close pairs of a sample, "
            f"{result['recall']:.1%} were found"
        )
