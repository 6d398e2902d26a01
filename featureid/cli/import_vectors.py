"""``featureid import``: make a snapshot of vectors from another program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from featureid.cli import console, metrics_file, safeguard_options
from featureid.errors import UsageError
from featureid.storage import export, files, ingest
from featureid.storage.arrow import Origin
from featureid.storage.ingest_parquet import read_parquet
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.process import this_process
from featureid.storage.records import DTYPES, ModelInfo
from featureid.storage.row_columns import stored_hash
from featureid.storage.run_record import RunRecord, versions_of
from featureid.storage.shard import choose_num_shards
from featureid.storage.snapshot import new_info, new_snapshot_id

_PACKAGES = ("numpy", "isal")
_RECORDED = (
    "file",
    "model",
    "keys",
    "key_column",
    "number_rows",
    "vector_column",
    "dtype",
    "num_shards",
)
_PARQUET = ".parquet"
_EXTENSIONS = (".npy", ".bin", ".bin.gz", _PARQUET)


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Make a snapshot of unit vectors from another program, or of an exported "
        "Parquet file.",
        epilog="The name of a model is recorded as unverified: its vectors can be compared only "
        "with others that were imported under the same name.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help=".npy, .parquet, or the published layout: .bin or .bin.gz")
    add("--output", required=True, metavar="DIR", help="output folder for snapshots")
    add(
        "--model",
        metavar="NAME",
        help="name for the model of the vectors; default: the model that an exported Parquet file "
        "names",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--keys", metavar="KEYS", help="one key per line, or .jsonl; default: FILE.keys.jsonl"
    )
    which.add_argument(
        "--key-column",
        metavar="NAME",
        help="Parquet column with the keys; default: key, or the only one of text",
    )
    which.add_argument("--number-rows", action="store_true", help="use row numbers as keys, from 0")
    add(
        "--vector-column",
        metavar="NAME",
        help="Parquet column with the vectors; default: vector, or the only one of lists of floats",
    )
    add(
        "--dtype",
        choices=DTYPES,
        help="as stored; default: float16 if the file has float16 or was exported from it, "
        "otherwise float32",
    )
    add("--num-shards", type=int, metavar="N", help="files to write; default: about 50 MB each")
    safeguard_options.add_arguments(parser)
    metrics_file.add_argument(parser)
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Make a snapshot of vectors from another program; return the exit status."""
    with metrics_file.reporting("import", argv, prog) as report:
        report.status = _run(argv, prog)
    return report.status


def _run(argv: Sequence[str], prog: str) -> int:
    arguments = console.parse(make_parser(prog), argv)
    _check(arguments)
    rows, origin, left_out = _read(arguments)
    if not rows.vectors.size:
        raise UsageError(f"{arguments.file} holds no vectors")
    model = _model(arguments, rows, origin)
    now = datetime.now(UTC)
    num_shards = arguments.num_shards or choose_num_shards(len(rows.keys), model)
    locations = origin.locations if origin else None
    info = new_info(new_snapshot_id(now), now, model, num_shards, locations)
    exported_from = origin.snapshot if origin else None
    options = {name: vars(arguments)[name] for name in _RECORDED} | {"exported_from": exported_from}
    record = RunRecord.begin(info, options, versions_of(_PACKAGES), process=this_process())
    safeguards = safeguard_options.safeguards(arguments)
    writer = SnapshotWriter(arguments.output, info, record, safeguards=safeguards)
    with console.counting("rows", len(rows.keys)) as count:
        manifest = ingest.import_snapshot(writer, rows, count)
    result = {
        "snapshot": info.snapshot,
        "folder": writer.folder,
        "rows": manifest.rows,
        "model": asdict(model),
        "exported_from": exported_from,
        "left_out": left_out,
    }
    unverified = " (unverified)" if model.is_unverified else ""
    lines = [f"{manifest.rows} rows of {model.name}{unverified}", f"snapshot: {writer.folder}"]
    if origin:
        lines.insert(1, f"exported from the snapshot {exported_from}")
    if left_out:
        lines.insert(1, f"left out, as snapshots have no such columns: {', '.join(left_out)}")
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _check(arguments: argparse.Namespace) -> None:
    name = arguments.file.lower()
    if not name.endswith(_EXTENSIONS):
        raise UsageError(f"{arguments.file} must end in one of {', '.join(_EXTENSIONS)}")
    if arguments.model == "":
        raise UsageError("--model is empty; give the model of the vectors a name")
    if arguments.num_shards is not None and arguments.num_shards < 1:
        raise UsageError(f"--num-shards is {arguments.num_shards}; it must be 1 or more")
    parquet = name.endswith(_PARQUET)
    for option in ("keys",) if parquet else ("key_column", "vector_column"):
        if getattr(arguments, option) is not None:
            others = ", ".join(extension for extension in _EXTENSIONS if extension != _PARQUET)
            raise UsageError(
                f"`{option}` is for {others if parquet else _PARQUET} files, which "
                f"{arguments.file} is not"
            )


def _read(
    arguments: argparse.Namespace,
) -> tuple[ingest.Rows, Origin | None, tuple[str, ...]]:
    path = arguments.file
    if path.lower().endswith(_PARQUET):
        found = read_parquet(
            path,
            arguments.key_column,
            arguments.vector_column,
            number_rows=arguments.number_rows,
        )
        return found.rows, found.origin, found.left_out
    vectors = ingest.read_vectors(path)
    if arguments.number_rows:
        keys = ingest.Keys([str(row) for row in range(len(vectors))])
    else:
        keys = ingest.read_keys(arguments.keys or _keys_beside(path))
    return ingest.Rows(path, keys.keys, vectors, keys.attributes), None, ()


def _model(arguments: argparse.Namespace, rows: ingest.Rows, origin: Origin | None) -> ModelInfo:
    dtype = arguments.dtype or (
        origin.model.dtype if origin else "float16" if rows.vectors.itemsize == 2 else "float32"
    )
    hash_ = stored_hash(rows.attributes)
    if arguments.model is not None:
        model = ModelInfo.unverified(arguments.model, rows.vectors.shape[1], dtype)
        return replace(model, hash=hash_)
    if origin is None:
        raise UsageError(
            f"{arguments.file} does not name the model of its vectors, as Parquet files of "
            "featureid export do; name it with --model"
        )
    return replace(origin.model, dtype=dtype, hash=hash_)


def _keys_beside(path: str) -> str:
    place = export.keys_path(path)
    if not files.exists(place):
        raise UsageError(
            f"{path} holds no keys, and {place} does not exist; give a file with --keys, or use "
            "row numbers as keys with --number-rows"
        )
    return place
