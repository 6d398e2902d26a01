"""Read damaged and forged files with every reader: ``python -m tests.fuzz --runs 100000``.

A run changes a good file and reads it. A damaged file, whose bytes were changed after it was
written, must be refused or read as the original. A forged file, whose content is wrong but whose
checksums are valid, must be refused or read as something, without any other error and without much
memory. A damaged image must be refused or decoded to the same pixels twice. A run takes about a
millisecond, of images ten; the seed and the number of the run reproduce it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from featureid.errors import FeatureIdError
from featureid.evaluation.calibration import decode_calibration, encode_calibration
from featureid.images.resize import STRETCH
from featureid.matching.index_file import decode_index, encode_index
from featureid.models import ModelBundle, Preprocessing, read_bundle, write_bundle
from featureid.models.archive import read_stored_zip, write_stored_zip
from featureid.models.building.onnx_structure import read_structure
from featureid.models.building.preprocess_config import read_preprocess_config
from featureid.models.bundle import Network, NetworkInput, with_own_digest
from featureid.models.features import Reduction
from featureid.storage import export, ingest, layout, published
from featureid.storage import gzip_members as gm
from featureid.storage.files import RangeReader
from featureid.storage.ingest_parquet import read_parquet
from featureid.storage.manifest import (
    FileSummary,
    Manifest,
    build_manifest,
    count_outcomes,
    digest_of,
)
from featureid.storage.reader import open_snapshot
from featureid.storage.records import Failure
from featureid.storage.shard import ShardSummary, shard_name
from featureid.storage.shard_reader import ShardMap
from featureid.storage.verify import verify_snapshot
from tests.calibration_samples import CALIBRATION, use_calibration
from tests.foreign_networks import CONFIGS, convolutional
from tests.fuzz_images import damaged_image
from tests.index_samples import INDEXES, indexed_snapshot, use_index
from tests.storage_samples import FAILURES, ID, encode, make_info, make_row, write_snapshot

#: Memory that a reader may take: a multiple of the file's size, plus what Python always takes.
MEMORY_FACTOR, MEMORY_BASE = 32, 1 << 20

NUMBERS = (0, 1, 2, 7, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 64)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    -1,
    1.5,
    1e308,
    "",
    "l2",
    "planes",
    "utf8",
    [],
    [3],
    {},
    None,
    True,
    "\0é",
)


def npy_bytes(array: np.ndarray) -> bytes:
    """Return the bytes that numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SHARD = encode([make_row(f"{n}/é.jpg", 8) for n in range(20)], make_info(dimension=8), 7)
EMPTY = encode([], make_info(dimension=8))
VECTORS = np.stack([make_row(str(n), 8).vector for n in range(30)])
MANY = published.write_multiple_embeddings(VECTORS)
NPY = npy_bytes(VECTORS)
MANIFEST = build_manifest(
    make_info(),
    [ShardSummary(shard_name(0, 1), 3, 1000, "ab" * 32, "a", "é", 3)],
    [FileSummary("failures-00000-of-00001.jsonl.gz", 2, 60, "cd" * 32)],
    count_outcomes(3, FAILURES),
)
BUNDLE = write_bundle(
    with_own_digest(
        ModelBundle(
            name="tiny",
            architecture="tiny-1",
            digest="sha256:" + "0" * 64,
            native_dimension=4,
            dimension=3,
            preprocessing=Preprocessing(8, 6, (127.0,) * 3, (128.0,) * 3, STRETCH, 2),
            network=Network(
                "model.onnx", b"a network", NetworkInput("x", "nchw", "float32", 4), "features"
            ),
            reduction=Reduction(np.ones((4, 3), np.float32)),
            provenance="made here",
            license="Apache-2.0",
            statistics={"parameters": 12},
        )
    )
)

ONNX = convolutional(2)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return ``data`` with some bytes flipped, overwritten, deleted, inserted, repeated or cut."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(out) + 1)
        end = min(len(out), start + rng.choice((1, 1, 2, 4, 8, 100)))
        kind = rng.randrange(6)
        if kind == 0 and start < len(out):
            out[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) % (1 << 8 * size)
            out[start : start + size] = number.to_bytes(size, "little")
        elif kind == 2:
            del out[start:end]
        elif kind == 3:
            out[start:start] = rng.randbytes(end - start)
        elif kind == 4:
            out[start:start] = out[start:end]
        elif kind == 5:
            del out[start:]
    return bytes(out)


def forge(value: Any, rng: random.Random) -> Any:
    """Return JSON data with one value in it replaced, removed, or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        if rng.random() < 0.05:
            return {key: item for key, item in value.items() if key != name}
        return {**value, name: forge(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value[:at] + value[at:] * rng.choice((0, 2))
        return [*value[:at], forge(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 4, 1 << 32))
    return rng.choice(VALUES)


def read_shard(path: Path) -> list[Any]:
    """Return everything in a shard file."""
    with RangeReader(str(path)) as source:
        shard = ShardMap(source)
        found: list[Any] = [
            np.empty((0, *spec.shape), spec.dtype).tolist()  # as for a snapshot without rows
            for spec in shard.header.columns
            if spec.known and not spec.is_text
        ]
        for number, block in enumerate(shard.index.blocks):
            for spec in shard.header.columns:
                if spec.known:
                    found.append(np.asarray(shard.values(source, number, spec.name)).tolist())
            matrix = np.empty((block.rows, shard.header.dimension), np.float32)
            shard.vectors_into(source, number, matrix)
            shard.find_block(block.first)
        return found


def forged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a shard with an altered header, index or member, and valid checksums."""
    at = len(data) - layout.FOOTER_SIZE
    index = layout.parse_footer(data[at:], len(data))
    fields = json.loads(gm.unpack(data[index.offset : index.end], index.raw_length))
    size, raw, _ = fields["header"]
    title, _, text = gm.unpack(data[:size], raw).partition(b"\n")
    body = data[size : index.offset]
    target = rng.randrange(4 if fields["blocks"] else 3)
    if target == 0:
        fields = forge(fields, rng)
    elif target == 1:
        text = json.dumps(forge(json.loads(text), rng)).encode() + b"\n"
    elif target == 2:
        text = mutate(text, rng)
    else:
        entry = fields["blocks"][0]["columns"][rng.randrange(7)][-1]
        start = sum(m[0] for c in fields["blocks"][0]["columns"] for m in c)
        body = mutate(body[:start], rng) + body[start:]
        entry[1] = rng.choice((entry[1], entry[1] + 1, entry[1] * 2))
        fields["blocks"][0] = signed_block(fields["blocks"][0], body)
    payload = title + b"\n" + text
    header = layout.pack_text(payload)
    if target != 0:
        fields["header"] = [len(header), len(payload), gm.member_crc(header)]
        shift = len(header) - size
        for block in fields["blocks"]:
            block["offset"] += shift
    payload = json.dumps(fields).encode()
    if rng.random() < 0.2:
        payload = mutate(payload, rng)
    member = layout.pack_text(payload)
    place = layout.Member(len(header) + len(body), len(member), len(payload), gm.member_crc(member))
    return header + body + member + layout.footer_member(place)


def signed_block(block: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return an index entry with the checksums of the bytes at the places that it states."""
    position, columns = 0, []
    for column in block["columns"]:
        members = []
        for length, raw, _ in column:
            members.append([length, raw, gm.member_crc(body[position : position + length])])
            position += length
        columns.append(members)
    return {**block, "columns": columns}


def damaged_shard(rng: random.Random, folder: Path) -> None:
    """A damaged shard: refused, or read as the original."""
    path = folder / "x.fid.gz"
    data = mutate(SHARD, rng)
    path.write_bytes(data)
    found = bounded(lambda: read_shard(path), len(data))
    path.write_bytes(SHARD)
    assert found == read_shard(path)


def forged_shard(rng: random.Random, folder: Path) -> None:
    """A shard that contradicts itself or the format, with valid checksums."""
    data = forged_bytes(rng.choice((SHARD, SHARD, EMPTY)), rng)
    (folder / "x.fid.gz").write_bytes(data)
    bounded(lambda: read_shard(folder / "x.fid.gz"), len(data))


def forged_manifest(rng: random.Random, folder: Path) -> None:
    """An altered manifest with a valid digest: opened, read and verified."""
    home = folder / "snapshots" / ID
    original = home / "original.json"
    if not home.exists():
        write_snapshot(folder, [str(n) for n in range(9)], num_shards=2)
        original.write_bytes((home / "manifest.json").read_bytes())
    fields = json.loads(original.read_bytes())
    for _ in range(rng.choice((1, 1, 2))):
        fields = forge(fields, rng)
    if isinstance(fields, dict):
        fields["digest"] = digest_of(fields)
    data = json.dumps(fields).encode()
    (home / "manifest.json").write_bytes(data)

    def read() -> None:
        snapshot = open_snapshot(str(folder))
        assert len(snapshot.vectors(1)) == len(snapshot.row_keys(1))
        list(snapshot.batches(4, 1))
        list(snapshot.failures())

    verify_snapshot(str(home), threads=1)
    bounded(read, len(data))


def damaged_manifest(rng: random.Random, _: Path) -> None:
    """A damaged manifest: refused, or read as the original."""
    data = mutate(MANIFEST.to_json(), rng)
    assert bounded(lambda: Manifest.from_json(data, "m"), len(data)) == MANIFEST


def damaged_many(rng: random.Random, _: Path) -> None:
    """Many vectors in the published layout, which has no checksums: only lengths are checked."""
    data = mutate(MANY, rng)
    found = bounded(lambda: published.read_multiple_embeddings(data), len(data))
    assert found.nbytes <= len(data)


def damaged_gzip(rng: random.Random, _: Path) -> None:
    """The same, gzipped: the checksum of gzip detects everything else."""
    whole = rng.choice((published.compress_binary(MANY), gzip.compress(MANY, mtime=0)))
    data = mutate(whole, rng)

    def read() -> Any:
        return published.read_multiple_embeddings(published.decompress_binary(data))

    found = bounded(read, len(data))
    assert np.array_equal(found, VECTORS)


def damaged_single(rng: random.Random, _: Path) -> None:
    """A damaged vector with metadata."""
    data = mutate(published.embedding_with_metadata(VECTORS[0], "float16"), rng)
    found = bounded(lambda: published.read_binary_embedding(data), len(data))
    assert found.nbytes + 11 == len(data)


def damaged_npy(rng: random.Random, _: Path) -> None:
    """A damaged .npy file."""
    data = mutate(NPY, rng)
    found = bounded(lambda: ingest.view_npy(memoryview(data)), len(data))
    assert found.ndim == 2 and found.nbytes <= len(data)


def damaged_parquet(rng: random.Random, folder: Path) -> None:
    """A damaged Parquet file, which has no checksums: pyarrow finds what it can."""
    path = folder / "x.parquet"
    if not path.exists():
        write_snapshot(folder / "out", [f"{n}/é.jpg" for n in range(30)])
        export.export_parquet(open_snapshot(str(folder / "out")), str(path), lambda _: None)
    data = mutate(path.read_bytes(), rng)
    (folder / "damaged.parquet").write_bytes(data)
    found = bounded(lambda: read_parquet(str(folder / "damaged.parquet")), len(data)).rows
    assert len(found.keys) == len(found.vectors)


def forged_bundle(rng: random.Random, _: Path) -> None:
    """A model bundle with an altered description or reduction, and valid checksums."""
    members = read_stored_zip(BUNDLE)
    description = members.pop("bundle.json")
    kind = rng.randrange(3)
    if kind == 0:
        description = mutate(description, rng)
    elif kind == 1:
        description = json.dumps(forge(json.loads(description), rng)).encode()
    else:
        data = members["reduction.npy"] = mutate(members["reduction.npy"], rng)
        fields = json.loads(description)
        checksum = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        fields["members"]["reduction.npy"] = checksum
        description = json.dumps(fields).encode()
    stored = {"bundle.json": description, **members}
    body = write_stored_zip(stored, b"sha256:" + b"0" * 64)[:-64]
    data = body + hashlib.sha256(body).hexdigest().encode()
    found = bounded(lambda: read_bundle(data, "m"), len(data))
    assert found.network.data == members["model.onnx"]


def damaged_index(rng: random.Random, folder: Path) -> None:
    """A damaged index of a snapshot: refused, or read as the original."""
    snapshot = indexed_snapshot(folder)
    original = encode_index(rng.choice(INDEXES), snapshot)
    data = mutate(original, rng)
    found = bounded(lambda: decode_index(data, snapshot, "x.index"), len(data))
    assert encode_index(found, snapshot) == original


def forged_index(rng: random.Random, folder: Path) -> None:
    """An index with other content and a valid checksum: refused, or searched by."""
    snapshot = indexed_snapshot(folder)
    line, _, body = encode_index(rng.choice(INDEXES), snapshot).partition(b"\n")
    header = json.loads(line)
    if rng.random() < 0.5:
        header = forge(header, rng)
    else:
        place = rng.randrange(len(body))
        body = body[:place] + mutate(body[place : place + 8], rng) + body[place + 8 :]
    if isinstance(header, dict):
        header["sha256"] = ""
        unsigned = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        header["sha256"] = hashlib.sha256(unsigned + b"\n" + body).hexdigest()
    data = json.dumps(header).encode() + b"\n" + body
    use_index(bounded(lambda: decode_index(data, snapshot, "x.index"), len(data)))


def damaged_calibration(rng: random.Random, _: Path) -> None:
    """A damaged calibration: refused, or read as the original."""
    data = mutate(encode_calibration(CALIBRATION), rng)
    assert bounded(lambda: decode_calibration(data, "x.calibration"), len(data)) == CALIBRATION


def forged_calibration(rng: random.Random, _: Path) -> None:
    """An altered calibration with a valid digest: refused, or judged by."""
    fields = forge(json.loads(encode_calibration(CALIBRATION)), rng)
    if isinstance(fields, dict):
        fields["digest"] = digest_of(fields)
    data = json.dumps(fields).encode()
    use_calibration(bounded(lambda: decode_calibration(data, "x.calibration"), len(data)))


def forged_failure(rng: random.Random, _: Path) -> None:
    """A line of a failures file that is damaged or does not describe a failure."""
    line = Failure("2026/é.jpg", "decode", "truncated", "the JPEG ends early", "v7").to_json()
    if rng.random() < 0.5:
        line = mutate(line, rng)
    else:
        line = json.dumps(forge(json.loads(line), rng)).encode()
    found = bounded(lambda: Failure.from_json(line), len(line))
    assert Failure.from_json(found.to_json()) == found


def damaged_onnx(rng: random.Random, _: Path) -> None:
    """An ONNX file, of which much is weights and names, where any change gives another network."""
    data = mutate(ONNX, rng)
    bounded(lambda: read_structure(data), len(data))


def forged_preprocessing(rng: random.Random, folder: Path) -> None:
    """A configuration file that says how images are prepared, with other values."""
    config = forge(json.loads(json.dumps(rng.choice(CONFIGS))), rng)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    found = read_preprocess_config(path)
    if found.size is not None:
        found.preprocessing(found.size, "float32", None)


def bounded(read: Callable[[], Any], size: int) -> Any:
    """Return what ``read`` returns, after checking that it needed little memory."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        return read()
    finally:
        peak = tracemalloc.get_traced_memory()[1] - before
        assert peak <= MEMORY_BASE + MEMORY_FACTOR * size, f"{peak} bytes for {size}"


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    target.__name__: target
    for target in (
        damaged_shard,
        forged_shard,
        damaged_manifest,
        forged_manifest,
        forged_failure,
        forged_bundle,
        forged_preprocessing,
        damaged_onnx,
        damaged_many,
        damaged_gzip,
        damaged_single,
        damaged_npy,
        damaged_parquet,
        damaged_index,
        forged_index,
        damaged_image,
        damaged_calibration,
        forged_calibration,
    )
}


def fuzz(name: str, runs: int, seed: int, folder: Path) -> int:
    """Run one target and return how many files were refused.

    Raises:
        AssertionError: a run failed; the message has the seed and number that reproduce it.
    """
    refused = 0
    tracemalloc.start()
    try:
        for run in range(runs):
            try:
                TARGETS[name](random.Random(f"{name} {seed} {run}"), folder)
            except FeatureIdError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}, run {run}: {error!r}") from error
    finally:
        tracemalloc.stop()
    return refused


def main() -> None:
    """Run the targets and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000, help="of each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=TARGETS, action="append")
    options = parser.parse_args()
    for name in options.target or TARGETS:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            refused = fuzz(name, options.runs, options.seed, Path(folder))
        seconds = time.monotonic() - start
        print(
            f"{name}: seed {options.seed}, {options.runs} runs, {refused} refused, {seconds:.0f} s"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
