"""``featureid import``: make a snapshot of vectors from another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from featureid.cli import console
from featureid.errors import UsageError
from featureid.storage import export, files, ingest
from featureid.storage.lifecycle import SnapshotWriter
from featureid.storage.process import this_process
from featureid.storage.records import DTYPES, ModelInfo
from featureid.storage.run_record import RunRecord, versions_of
from featureid.storage.shard import choose_num_shards
from featureid.storage.snapshot import new_info, new_snapshot_id

_PACKAGES = ("numpy", "isal")
_RECORDED = ("file", "model", "keys", "number_rows", "dtype", "num_shards")
_EXTENSIONS = (".npy", ".bin", ".bin.gz")


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog,
        description="Make a snapshot of unit vectors from another program.",
        epilog="The model is recorded as unverified: its vectors can be compared only with others "
        "that were imported under the same name.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help=".npy, or the published layout: .bin or .bin.gz")
    add("--output", required=True, metavar="DIR", help="output folder for snapshots")
    add("--model", required=True, metavar="NAME", help="name for the model of the vectors")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--keys", metavar="KEYS", help="one key per line, or .jsonl; default: FILE.keys.jsonl"
    )
    which.add_argument("--number-rows", action="store_true", help="use row numbers as keys, from 0")
    add(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="as stored; default: %(default)s",
    )
    add("--num-shards", type=int, metavar="N", help="files to write; default: about 50 MB each")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Make a snapshot of vectors from another program; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    if not arguments.file.endswith(_EXTENSIONS):
        raise UsageError(f"{arguments.file} must end in one of {', '.join(_EXTENSIONS)}")
    if arguments.num_shards is not None and arguments.num_shards < 1:
        raise UsageError(f"--num-shards is {arguments.num_shards}; it must be 1 or more")
    vectors = ingest.read_vectors(arguments.file)
    if not vectors.size:
        raise UsageError(f"{arguments.file} holds no vectors")
    if arguments.number_rows:
        keys = ingest.Keys([str(row) for row in range(len(vectors))])
    else:
        keys = ingest.read_keys(arguments.keys or _keys_beside(arguments.file))
    model = ModelInfo.unverified(arguments.model, vectors.shape[1], arguments.dtype)
    now = datetime.now(UTC)
    num_shards = arguments.num_shards or choose_num_shards(len(vectors), model)
    info = new_info(new_snapshot_id(now), now, model, num_shards)
    options = {name: vars(arguments)[name] for name in _RECORDED}
    record = RunRecord.begin(info, options, versions_of(_PACKAGES), process=this_process())
    writer = SnapshotWriter(arguments.output, info, record)
    with console.counting("rows", len(vectors)) as count:
        manifest = ingest.import_snapshot(writer, keys, vectors, count)
    result = {
        "snapshot": info.snapshot,
        "folder": writer.folder,
        "rows": manifest.rows,
        "model": asdict(model),
    }
    lines = [f"{manifest.rows} rows of {model.name} (unverified)", f"snapshot: {writer.folder}"]
    console.print_result(result, arguments.json, lines)
    return console.DONE


def _keys_beside(path: str) -> str:
    place = export.keys_path(path)
    if not files.exists(place):
        raise UsageError(
            f"{path} holds no keys, and {place} does not exist; give a file with --keys, or use "
            "row numbers as keys with --number-rows"
        )
    return place
