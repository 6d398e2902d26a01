"""Manifests: every format, what they are by mistake, and where they are wrong, line by line."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featureid
from featureid.cli import main as cli
from featureid.errors import UsageError
from featureid.input_manifest import read_manifest

GZIPPED = gzip.compress(b"path\na.jpg\n", mtime=0)

ODD = os.fsdecode(b"caf\xe9.jpg")


def write(path: Path, content: bytes | str) -> str:
    path.write_bytes(content if isinstance(content, bytes) else os.fsencode(content))
    return str(path)


@pytest.mark.parametrize(
    ("name", "content", "paths"),
    [
        ("list", "a.jpg\n\n  b.jpg\r\né.jpg", ["a.jpg", "  b.jpg", "é.jpg"]),
        ("list.txt", "\ufeffa.jpg\rb.jpg\r", ["a.jpg", "b.jpg"]),
        ("list.txt", b"a.jpg\ncaf\xe9.jpg\n", ["a.jpg", ODD]),
        ("list.csv", "\ufeffid,path\r\n1,a.jpg\r\n\r\n2,\r\n3,b.jpg\r\n", ["a.jpg", "b.jpg"]),
        ("list.csv", "path,id\ra.jpg,1\rb.jpg,2", ["a.jpg", "b.jpg"]),
        ("list.csv", 'path\n"a,""b"".jpg"\n"two\nlines.jpg"\n', ['a,"b".jpg', "two\nlines.jpg"]),
        ("list.csv", 'text,path\n5" x 3",a.jpg\n', ["a.jpg"]),
        ("list.tsv", b"path\tid\ncaf\xe9.jpg\t1\n", [ODD]),
        ("list.TSV", "id\tpath\n1\ta b.jpg\n", ["a b.jpg"]),
        ("list.jsonl", '{"path": "a"}\n\n{"path": null}\n{"id": 1, "path": "é"}', ["a", "é"]),
        ("list.ndjson", json.dumps({"path": ODD}), [ODD]),
    ],
)  # fmt: skip
def test_every_format(tmp_path: Path, name: str, content: bytes | str, paths: list[str]) -> None:
    assert list(read_manifest(write(tmp_path / name, content))) == paths


def test_columns_have_names(tmp_path: Path) -> None:
    for name in ("list.csv", "list.tsv"):
        separator = "," if name.endswith("csv") else "\t"
        text = f"path{separator}uri\nno{separator}a.jpg\n"
        assert list(read_manifest(write(tmp_path / name, text), "uri")) == ["a.jpg"]
    line = json.dumps({"path": 7, "uri": "a.jpg"})
    assert list(read_manifest(write(tmp_path / "list.jsonl", line), "uri")) == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", 'id,path\n1,a\n"2,b\n3,c\n4,d\n', "line 3: unexpected end of data; is a quot"),
        ("list.tsv", 'id\tpath\n"5" wide\ta\n"3" wide\tb\n', "line 2: '\t' expected after '\"'"),
        ("list.csv", f"id,path\n1,a\n{'x' * 131073},b\n", "line 3: field larger than field limit"),
        ("list.csv", 'id,path\n"1,a\n' + "2,b\n" * 40_000, "line 2: field larger than field limit"),
        ("list.csv", "id,path\n1,a\n2,b,c.jpg\n", "line 3: 3 fields, but the header has 2; put"),
        ("list.csv", "id,path\n1\n", "line 2: 1 fields, but the header has 2"),
        ("list.csv", "path,path\na,b\n", "has several columns 'path'; rename all but one"),
        ("list.csv", "", "has no column 'path'; it has none"),
        ("list.jsonl", '{"path": "a"}\n{"path": ', "line 2 is not JSON"),
        ("list.jsonl", '["a.jpg"]', "line 1 is not a JSON object; give one per line"),
        ("list.jsonl", '{"uri": "a"}', "line 1 has no column 'path'; it has 'uri': name one"),
        ("list.jsonl", '{"path": 1}', "line 1: 'path' is 1; give it as text"),
        ("list.jsonl", '{"path": "a\\ud800.jpg"}', "'a\\ud800.jpg', which is not valid Unicode"),
        ("list.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("list.csv", GZIPPED, "compressed with gzip; decompress it"),
        ("list.txt.gz", GZIPPED, "compressed with gzip; decompress it"),
        ("list.txt", codecs.BOM_UTF16_LE + "a".encode("utf-16-le"), "is UTF-16; save it as UTF-8"),
        ("list.csv", codecs.BOM_UTF16_BE + b"\0a", "is UTF-16; save it as UTF-8"),
        ("list.csv", "path\na.jpg".encode("utf-16-le"), "has NUL bytes; is it UTF-16"),
        ("list.xlsx", b"PK\x03\x04", "a spreadsheet; save it as .csv"),
        ("list.csv", b"PAR1", "is Parquet; give it a name that ends in .parquet"),
        ("list.parquet", b"path\na.jpg", "cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, name: str, content: bytes | str, message: str
) -> None:
    place = write(tmp_path / name, content)
    with pytest.raises(UsageError) as caught:
        list(read_manifest(place))
    assert str(caught.value).startswith(f"manifest {place!r}") and message in str(caught.value)


def test_manifests_in_a_store() -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/lists/a::b[1].csv", b"path\na.jpg\n")
    assert list(read_manifest("memory:///lists/a::b[1].csv")) == ["a.jpg"]
    with pytest.raises(UsageError, match=r"none\.csv: it is not there; check the spelling"):
        list(read_manifest("memory://lists/none.csv"))
    store.rm("/lists", recursive=True)


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with images whose names take care."""
    for name in ("a.jpg", ODD, "100% [1]#?.jpg"):
        shutil.copy(photos / "small" / "coffee.jpg", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_bad_name_is_one_failure(here: Path) -> None:
    pq.write_table(pa.table({"path": ["a.jpg", "nul\0.jpg"]}), "list.parquet")
    write(here / "list.jsonl", '{"path": "a.jpg"}\n{"path": "nul\\u0000.jpg"}')
    write(here / "list.csv", b"path\na.jpg\nnul\0.jpg\n")
    write(here / "list.txt", b"a.jpg\nnot utf-8 \xe9.jpg\ncaf\xe9.jpg")
    for name, rows in {"list.parquet": 1, "list.jsonl": 1, "list.csv": 1, "list.txt": 2}.items():
        assert cli.main(["embed", "--manifest", name, "--output", name[5:]]) == 0
        snapshot = featureid.open_snapshot(name[5:])
        (failure,) = snapshot.failures()
        assert (len(snapshot), failure.reason) == (rows, "not-found")
        assert ("in another encoding, such as Latin-1?" in failure.message) == (rows == 2)


def test_a_place_that_cannot_be_is_one_failure(here: Path) -> None:
    wanted = {
        "/nul\0/current": "no such file",
        "/nul\0/../a.jpg": "no such file",
        "nosuch://x": "Protocol not known: nosuch; use a local path, s3:// or gs://",
        "abfs://container/a.jpg": "no support for abfs://",
    }
    write(here / "list.txt", "\n".join(["a.jpg", *wanted]))
    assert cli.main(["embed", "--manifest", "list.txt", "--output", "out"]) == 0
    failures = {failure.key: failure for failure in featureid.open_snapshot("out").failures()}
    assert failures.keys() == wanted.keys()
    for key, message in wanted.items():
        reason = "unreadable" if "://" in key else "not-found"
        assert (failures[key].stage, failures[key].reason) == ("read", reason)
        assert message in failures[key].message


def test_a_run_that_meets_a_bad_line_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "list.csv", 'path,id\na.jpg,1\n"a.jpg,2\n')
    assert cli.main(["embed", "--manifest", "list.csv", "--output", "out"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "list.csv', line 3: unexpected end of data" in err
    assert "while running" not in err
    assert not (here / "out").exists()


def test_file_uris_are_percent_encoded_in_and_out(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = here / "50% é"
    uris = [(here / name).as_uri() for name in ("a.jpg", "100% [1]#?.jpg")]
    assert "%25" in uris[1]
    write(here / "list.txt", "\n".join(uris))
    for inputs in (uris, ["--manifest", (here / "list.txt").as_uri()]):
        assert cli.main(["embed", *inputs, "--output", output.as_uri()]) == 0
        snapshot = featureid.open_snapshot(output.as_uri())
        assert set(snapshot) == {f"{here}/a.jpg", f"{here}/100% [1]#?.jpg"}
    assert len(list((output / "snapshots").iterdir())) == 2
    assert cli.main(["embed", "file://photos/a.jpg", "--output", "out"]) == 2
    assert (
        "file:///photos/a.jpg, but this one names the machine 'photos'" in capsys.readouterr().err
    )
