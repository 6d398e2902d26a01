"""``featureid export`` and ``import``: snapshots to and from the formats of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from featureid import __version__
from featureid.errors import UsageError
from featureid.storage import export, files, ingest
from featureid.storage.reader import open_snapshot
from featureid.storage.records import DTYPES, ModelInfo, SnapshotInfo
from featureid.storage.shard import choose_num_shards
from featureid.storage.snapshot import created_text, new_snapshot_id, snapshot_folder
from pipelines import console

_FOREIGN = (".npy", ".bin", ".bin.gz")


def run_export(argv: Sequence[str], prog: str) -> int:
    """Write a snapshot in another format; returns the exit status."""
    parser = console.Parser(prog=prog, description="Write a snapshot in another format.")
    add = parser.add_argument
    add("snapshot", metavar="DIR", help="output folder, or one snapshot's folder")
    add("--to", required=True, choices=tuple(export.EXPORTS), help="the format")
    add("path", metavar="PATH", help="the file to write; published: gzipped if it ends in .gz")
    arguments = console.parse(parser, argv)
    snapshot = open_snapshot(arguments.snapshot)
    with console.counting("rows exported", len(snapshot)) as count:
        export.EXPORTS[arguments.to](snapshot, arguments.path, count)
    written = [arguments.path]
    if arguments.to != "parquet":
        written.append(export.keys_path(arguments.path))
    sizes = {path: files.size(path) for path in written}
    result = {
        "snapshot": snapshot.folder,
        "model": asdict(snapshot.model),
        "rows": len(snapshot),
        "files": sizes,
    }
    lines = (f"{path}: {size} bytes" for path, size in sizes.items())
    console.print_result(result, arguments.json, "\n".join([f"{len(snapshot)} rows", *lines]))
    return console.DONE


def run_import(argv: Sequence[str], prog: str) -> int:
    """Make a snapshot of vectors that another program wrote; returns the exit status."""
    parser = console.Parser(
        prog=prog,
        description="Make a snapshot of unit vectors that another program wrote.",
        epilog="The model is recorded as unverified: its vectors compare with others that were "
        "imported under the same name, and with nothing else.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help=".npy, or the published layout: .bin or .bin.gz")
    add("--output", required=True, metavar="DIR", help="where snapshots are kept")
    add("--model", required=True, metavar="NAME", help="what made the vectors, in your words")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--keys", metavar="KEYS", help="a key a line, or .jsonl; default: FILE.keys.jsonl"
    )
    which.add_argument("--number-rows", action="store_true", help="keys are row numbers, from 0")
    add("--dtype", choices=DTYPES, default="float32", help="in .bin, and as stored")
    add("--num-shards", type=int, metavar="N", help="files to write; default: about 50 MB each")
    arguments = console.parse(parser, argv)
    if not arguments.file.endswith(_FOREIGN):
        raise UsageError(f"{arguments.file} does not end in {', '.join(_FOREIGN)}")
    if arguments.num_shards is not None and arguments.num_shards < 1:
        raise UsageError(f"--num-shards is {arguments.num_shards}; it must be 1 or more")
    vectors = ingest.read_vectors(arguments.file, arguments.dtype)
    if not vectors.size:
        raise UsageError(f"{arguments.file} holds no vectors")
    if arguments.number_rows:
        keys = ingest.Keys([str(row) for row in range(len(vectors))])
    else:
        keys = ingest.read_keys(arguments.keys or _keys_beside(arguments.file))
    model = ModelInfo.unverified(arguments.model, vectors.shape[1], arguments.dtype)
    now = datetime.now(timezone.utc)
    info = SnapshotInfo(
        snapshot=new_snapshot_id(now),
        created=created_text(now),
        writer=f"featureid {__version__}",
        model=model,
        num_shards=arguments.num_shards or choose_num_shards(len(vectors), model),
    )
    with console.counting("rows imported", len(vectors)) as count:
        manifest = ingest.import_snapshot(arguments.output, info, keys, vectors, count)
    folder = snapshot_folder(arguments.output, info.snapshot)
    result = {"snapshot": folder, "rows": manifest.rows, "model": asdict(model)}
    text = f"{manifest.rows} rows of {model.name} (unverified)\nsnapshot: {folder}"
    console.print_result(result, arguments.json, text)
    return console.DONE


def _keys_beside(path: str) -> str:
    place = export.keys_path(path)
    if not files.exists(place):
        raise UsageError(
            f"{path} holds no keys and {place} is not there; name a file with --keys, or have the "
            "rows numbered with --number-rows"
        )
    return place
