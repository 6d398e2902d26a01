"""``featureid search``: find the images in snapshots that are most like others."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from featureid.cli import console, face_options, report_option, verdicts
from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.evaluation.calibration import Calibration, find_calibration
from featureid.images.face_finder import settings_of_line
from featureid.inputs import ImageRef, InputSource
from featureid.keys import image_key
from featureid.matching.gallery import DEFAULT_K, Gallery
from featureid.matching.index import MAX_HELD_BYTES
from featureid.matching.inverted_lists import FEWEST_ROWS, NEIGHBORS
from featureid.matching.scores import check_comparable
from featureid.model_store import model_of
from featureid.models import resolve_model
from featureid.queries import Answer, Hit, Query, search, snapshot_queries, source_queries
from featureid.reports.search import search_report
from featureid.storage.reader import open_snapshot
from featureid.storage.records import Failure
from featureid.storage.snapshot import is_output

_LOG = logging.getLogger(__name__)
# Queries that are searched for in one go through the gallery.
_AT_ONCE = 1024


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Find the images in snapshots that are most like others."
    )
    add = parser.add_argument
    place = "output folder or one snapshot's folder; local path or URI"
    add("galleries", nargs="+", metavar="DIR", help=f"what to search: {place}")
    add(
        "--query",
        nargs="+",
        action="extend",
        required=True,
        metavar="QUERY",
        help="what to search for: image, folder of images, glob, or snapshot; repeatable",
    )
    add(
        "-k",
        type=int,
        metavar="K",
        help=f"matches per query; default: {DEFAULT_K}, or, with --threshold, all",
    )
    add("--threshold", type=float, metavar="T", help="lowest score; default: none")
    add(
        "--index",
        action="store_true",
        help="search by the index of featureid index, which misses a few matches",
    )
    add("--prefix", default="", metavar="P", help="search only images whose keys start with P")
    add("--no-hash", action="store_true", help="leave out what only perceptual hashes tell")
    add("--exclude-self", action="store_true", help="leave out matches with the query's own key")
    add(
        "--turned",
        action="store_true",
        help="turn each query image by 90, 180 and 270 degrees, too",
    )
    add("--model", metavar="NAME|FILE", help="model of the query images; default: the snapshot's")
    verdicts.add_argument(parser)
    report_option.add_argument(parser)
    report_option.add_root(parser)
    face_options.add_arguments(parser, ("largest", "center", "all", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Search; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    report_option.check(arguments)
    if arguments.k is None and arguments.threshold is None:
        arguments.k = DEFAULT_K
    snapshots = [open_snapshot(place) for place in arguments.galleries]
    calibration = find_calibration(
        snapshots[0].model,
        arguments.calibration,
        *snapshots,
        plain="`index`" if arguments.index else "",
    )
    cohort = calibration.opened_cohort() if calibration else None
    probe = Gallery(snapshots, arguments.prefix, stream=True, index=arguments.index, cohort=cohort)
    queries = _queries(arguments, probe)
    first = [*islice(queries, _AT_ONCE)]
    second = [*islice(queries, 1)]
    size = probe.num_rows * probe.model.dimension * 4
    gallery = probe
    by_lists = arguments.index and arguments.threshold is None
    # For several goes, or for the nearest rows by an index.
    held = bool(second or by_lists) and size <= MAX_HELD_BYTES
    if held:
        with console.counting("rows", probe.num_rows) as progress:
            gallery = Gallery(
                snapshots,
                arguments.prefix,
                index=arguments.index,
                cohort=cohort,
                progress=progress,
            )
    hashes = gallery.hashes() if gallery.has_hashes and not arguments.no_hash else None
    results, failures, shown = [], [], []
    rest = chain(second, queries)
    batch = first
    while batch:
        failures += [item for item in batch if isinstance(item, Failure)]
        asked = [item for item in batch if isinstance(item, Query)]
        answers = search(
            gallery, asked, arguments.k, arguments.threshold, arguments.exclude_self, hashes
        )
        results += [_result(answer, gallery, arguments.turned, calibration) for answer in answers]
        if arguments.report:
            shown += answers
        batch = [*islice(rest, _AT_ONCE)]
    for failure in failures:
        _LOG.warning("query %s: %s: %s", failure.key, failure.reason, failure.message)
    printed = {
        "results": results,
        "rows": gallery.num_rows,
        "failures": [asdict(failure) for failure in failures],
    }
    if arguments.index:
        k = None if arguments.k is None else arguments.k + arguments.exclude_self
        printed["recall"] = _recall(gallery, k, arguments.threshold, held)
    lines = [*_lines(results)]
    if calibration is not None:
        printed["calibration"] = verdicts.described(calibration)
        lines.append(f"verdicts rest on {calibration.describe()}")
    if arguments.report:
        report = search_report(shown, gallery, calibration, arguments.root)
        lines.append(report_option.write(arguments.report, report))
    console.print_result(printed, arguments.json, lines)
    if failures and not results:
        return console.FAILED
    return console.DONE


def _recall(gallery: Gallery, k: int | None, threshold: float | None, held: bool) -> float:
    """Return what share of all matches the index finds, and say it; 1 if it is not used."""
    recall = gallery.recall(k, threshold)
    if recall is not None and gallery.uses_index(k, threshold):
        _LOG.info("the index finds %s", recall.text)
        return round(recall.share, 4)
    if not gallery.has_index_for(threshold):
        reason = "it was made for the other kind of searches only"
    elif threshold is None and not held:
        reason = "this gallery is too large to be held in memory"
    elif recall is not None:
        reason = f"it finds only {recall.text}"
    elif threshold is not None:
        reason = "too few rows are near each other to measure what it finds"
    else:
        reason = (
            f"without a threshold it is for -k up to {NEIGHBORS[-1]} and for snapshots of "
            f"{FEWEST_ROWS} rows or more"
        )
    _LOG.warning("the index is not used: %s", reason)
    return 1.0


def _queries(arguments: argparse.Namespace, gallery: Gallery) -> Iterator[Query | Failure]:
    """Yield the queries; images are embedded as they are needed."""
    images: list[InputSource] = []
    for place in arguments.query:
        if is_output(place):
            snapshot = open_snapshot(place)
            check_comparable(
                gallery.model, gallery.snapshots[0].folder, snapshot.model, snapshot.folder
            )
            yield from snapshot_queries(snapshot)
        else:
            images.append(InputSource(place))
    if images:
        yield from _of_images(images, arguments, gallery)


def _of_images(
    sources: Sequence[InputSource], arguments: argparse.Namespace, gallery: Gallery
) -> Iterator[Query | Failure]:
    folder, model = gallery.snapshots[0].folder, gallery.model
    if arguments.turned and model.faces:
        raise UsageError("`turned` is for models of whole images; a face is turned upright anyway")
    faces = face_options.settings(arguments, settings_of_line(model.faces) if model.faces else None)
    bundle = resolve_model(arguments.model) if arguments.model else model_of(folder, model)
    embedder = Embedder(bundle, EmbedSettings(faces=faces))
    try:
        check_comparable(model, folder, embedder.info, "the query images")
        hashed = gallery.has_hashes and not arguments.no_hash
        named = partial(_known, gallery=gallery)
        yield from source_queries(sources, embedder, arguments.turned, hashed, named)
    finally:
        embedder.close()


def _known(ref: ImageRef, gallery: Gallery) -> ImageRef:
    """Return a reference with the key that the gallery has for the image, if it is in there."""
    for snapshot in gallery.snapshots:
        key = image_key(ref.uri, snapshot.manifest.info.locations.root)
        if key in snapshot:
            return replace(ref, key=key)
    return ref


def _result(
    answer: Answer, gallery: Gallery, turned: bool, calibration: Calibration | None
) -> dict[str, Any]:
    result: dict[str, Any] = {"query": answer.query.name}
    if answer.query.face is not None:
        result["face"] = answer.query.face
    hits = [_hit(hit, gallery, turned, calibration) for hit in answer.hits]
    return {**result, "hits": hits, "cut_off": answer.cut_off}


def _hit(
    hit: Hit, gallery: Gallery, turned: bool, calibration: Calibration | None
) -> dict[str, Any]:
    match = hit.match
    found: dict[str, Any] = {"key": match.key, "score": round(match.score, 6)}
    if calibration is not None:
        found["verdict"] = calibration.verdict(match.score)
    if match.face is not None:
        found["face"] = match.face
    if hit.hash_distance is not None:
        found["hash_distance"] = hit.hash_distance
    if len(gallery.snapshots) > 1:
        found["snapshot"] = gallery.snapshots[match.snapshot].manifest.info.snapshot
    if turned:
        found["turned"] = hit.turned
    return found


def _lines(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        yield _named(result["query"], result)
        for hit in result["hits"]:
            turned = f"  turned by {hit['turned']}°" if hit.get("turned") else ""
            snapshot = f"  {hit['snapshot']}" if "snapshot" in hit else ""
            bits = f"  {console.bits_apart(hit['hash_distance'])}" if "hash_distance" in hit else ""
            verdict = f"  {hit['verdict']:9}" if "verdict" in hit else ""
            named = _named(hit["key"], hit)
            yield f"  {hit['score']:7.4f}{verdict}{bits}  {named}{snapshot}{turned}"
        if not result["hits"]:
            yield "  no match"
        if result["cut_off"]:
            yield f"  … and {result['cut_off']} more; raise -k to see them"


def _named(key: str, found: dict[str, Any]) -> str:
    return f"{key}, face {found['face']}" if "face" in found else key
