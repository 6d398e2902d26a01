import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featureid.errors import ImageError, UsageError
from featureid.inputs import (
    ImageRef,
    InputSource,
    check_sources,
    list_source,
    read_image,
    remote_version,
)
from featureid.storage import files
from featureid.storage.records import Failure


def refs(path: object, **options: Any) -> list[ImageRef]:
    found = list(list_source(InputSource(str(path), **options)))
    images = [item for item in found if isinstance(item, ImageRef)]
    assert images == found
    return sorted(images, key=lambda ref: ref.key)


def keys(path: object, **options: Any) -> list[str]:
    return [ref.key for ref in refs(path, **options)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "pictures"
    for name in ("a.jpg", "2026/b.png", "2026/deep/er/c", "x.jpg/inside.jpg", ".hidden.jpg"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (top / ".git").mkdir()
    (top / ".git" / "object").write_bytes(b"no picture")
    return top


def test_a_folder_is_walked_and_hidden_names_are_skipped(folder: Path) -> None:
    expected = ["2026/b.png", "2026/deep/er/c", "a.jpg", "x.jpg/inside.jpg"]
    assert keys(folder) == [f"{folder}/{name}" for name in expected]


def test_equal_spellings_of_a_folder_give_equal_keys(folder: Path) -> None:
    assert keys(folder) == keys(f"{folder}/") == keys(f"{folder.parent}/./{folder.name}")


def test_relative_inputs_stay_where_they_were_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    write_manifest(folder / "2026" / "list.txt", ["a.jpg", "2026/b.png"])
    sources = [
        InputSource("2026/list.txt", manifest=True),
        InputSource("*.jpg", strip_prefix="2026"),
        InputSource("2026/../x.jpg"),
    ]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # as a worker is
    listed = [item.key for source in sources for item in list_source(source)]
    names = ("a.jpg", "2026/b.png", "a.jpg", "x.jpg/inside.jpg")
    assert listed == [f"{folder}/{name}" for name in names]


def test_strip_prefix_makes_the_key_and_leaves_the_uri(folder: Path) -> None:
    ref = refs(folder, strip_prefix=f"{folder}/")[0]
    assert (ref.key, ref.uri) == ("2026/b.png", f"{folder}/2026/b.png")


def test_version_follows_the_modification_time(folder: Path) -> None:
    before = refs(folder / "a.jpg")[0].version
    os.utime(folder / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    after = refs(folder / "a.jpg")[0].version
    assert after.startswith("mtime:1700000000123456789,size:") and after != before


def test_the_output_below_an_input_is_no_input(folder: Path) -> None:
    assert f"{folder}/2026/b.png" not in keys(folder, output=f"{folder}/2026")
    assert f"{folder}/a.jpg" in keys(folder, output=f"{folder}/2026")


def test_globs_match_files_only_and_may_recurse(folder: Path) -> None:
    assert keys(f"{folder}/*.jpg") == [f"{folder}/a.jpg"]
    assert f"{folder}/x.jpg/inside.jpg" in keys(f"{folder}/**/*.jpg")


def test_a_name_with_brackets_is_no_glob_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "a[1].jpg").touch()
    assert keys(tmp_path / "a[1].jpg") == [f"{tmp_path}/a[1].jpg"]


def test_a_file_name_that_is_not_utf8_is_kept_readable(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", os.O_CREAT))
    (ref,) = refs(tmp_path)
    assert ref.key == f"{tmp_path}/caf\\xe9.jpg"
    assert read_image(ref.uri, 10) == b""


def test_a_dangling_link_is_listed_so_that_it_becomes_a_failure(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (ref,) = refs(tmp_path)
    with pytest.raises(ImageError, match="no such file") as caught:
        read_image(ref.uri, 10)
    assert (caught.value.stage, caught.value.reason) == ("read", "not-found")


def test_a_folder_that_cannot_be_listed_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("2026"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # The tests may run as root, who may list all.
    found = list(list_source(InputSource(str(folder))))
    (failure,) = [item for item in found if isinstance(item, Failure)]
    assert (failure.key, failure.stage, failure.reason) == (f"{folder}/2026", "list", "unreadable")
    assert len(found) == 3


@pytest.mark.parametrize("name", ["nowhere", "*.tiff", ".git/empty"])
def test_nothing_there_is_refused(folder: Path, name: str) -> None:
    (folder / ".git" / "empty").mkdir()
    with pytest.raises(UsageError, match=r"input '.*'"):
        check_sources([InputSource(f"{folder}/{name}")])


def write_manifest(path: Path, paths: list[str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": list(range(len(paths))), "path": paths}), path)
    elif path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [f"id{separator}path", *(f"{i}{separator}{p}" for i, p in enumerate(paths))]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        path.write_text("\ufeff" + "\r\n".join([*paths, "", ""]), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".parquet"])
def test_manifests_list_paths(folder: Path, suffix: str) -> None:
    # Neither URI can be looked at: no such object, no such store.
    paths = [f"{folder}/a.jpg", f"{folder}/2026/é.png", "memory://bucket/c.jpg", "nowhere://c.jpg"]
    manifest = write_manifest(folder / f"list{suffix}", paths)
    found = refs(manifest, manifest=True)
    assert {ref.uri for ref in found} == set(paths)
    assert {bool(ref.version) for ref in found if ref.uri.endswith("a.jpg")} == {True}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_missing_column_is_named_with_those_there_are(folder: Path, suffix: str) -> None:
    manifest = write_manifest(folder / f"list{suffix}", ["a.jpg"])
    with pytest.raises(UsageError, match=r"no column 'uri'; it has 'id', 'path'"):
        check_sources([InputSource(str(manifest), manifest=True, column="uri")])


def test_a_bad_manifest_is_refused(folder: Path) -> None:
    (folder / "list.parquet").write_bytes(b"not parquet")
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "empty.txt").touch()
    for name, message in {
        "list.parquet": "as Parquet",
        "list.txt": "is UTF-16",
        "none.txt": "cannot be read: No such file",
        "empty.txt": "lists no image",
    }.items():
        with pytest.raises(UsageError, match=message):
            check_sources([InputSource(str(folder / name), manifest=True)])


@pytest.mark.parametrize("suffix", [".csv", ".TSV", ".jsonl", ".parquet"])
def test_a_manifest_given_as_an_image_is_refused(folder: Path, suffix: str) -> None:
    (folder / f"list{suffix}").touch()
    with pytest.raises(UsageError, match=rf"list{suffix}' lists images.*give it as `manifest`"):
        check_sources([InputSource(f"{folder}/list{suffix}")])


def test_an_empty_input_is_refused() -> None:
    with pytest.raises(UsageError, match="an input is empty"):
        InputSource("")


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"ETag": '"abc"', "size": 3}, "etag:abc"),
        ({"generation": "17", "etag": "x"}, "generation:17"),
        ({"size": 3}, ""),
    ],
)
def test_versions_of_objects(info: dict[str, object], version: str) -> None:
    assert remote_version(info) == version


def test_reading_refuses_what_is_no_file_or_too_large(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    for name, reason in {"pipe": "not-a-file", ".": "not-a-file", "large": "too-large"}.items():
        with pytest.raises(ImageError) as caught:
            read_image(str(tmp_path / name), 4)
        assert caught.value.reason == reason
    assert read_image(str(tmp_path / "large"), 5) == b"12345"


def test_objects_are_listed_and_read_like_files() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("a.jpg", "2026/b.jpg", "2026/.hidden/c.jpg", "out/snapshots/d"):
        store.pipe_file(f"/photos/{name}", name.encode())
    found = keys("memory://photos", output="memory://photos/out", strip_prefix="memory://photos/")
    assert found == ["2026/b.jpg", "a.jpg"]
    assert keys("memory://photos/2026/*.jpg") == ["memory://photos/2026/b.jpg"]
    assert read_image("memory://photos/a.jpg", 10) == b"a.jpg"
    with pytest.raises(UsageError, match="no such object"):
        check_sources([InputSource("memory://photos/nowhere")])
    with pytest.raises(ImageError) as caught:
        read_image("memory://photos/none.jpg", 10)
    assert caught.value.reason == "not-found"
    store.rm("/photos", recursive=True)


@pytest.mark.parametrize("name", ["br[1].jpg", "what?.jpg", "*.jpg", "a::b.jpg", "#1 100%25.jpg"])
def test_the_name_of_an_object_is_taken_as_it_is(name: str) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for other in (name, "br1.jpg", "what1.jpg", "b.jpg", "sub/br1.jpg"):
        store.pipe_file(f"/odd/{other}", other.encode())
    uri = f"memory:///odd/{name}"
    assert read_image(uri, 100) == name.encode()
    (ref,) = refs(uri)
    assert read_image(f"memory:///odd/{ref.uri.rpartition('/')[2]}", 100) == name.encode()
    store.rm("/odd", recursive=True)


def test_a_folder_with_brackets_is_listed_and_removed_alone() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name in ("/ids[1]/a/b", "/ids1/a/b"):
        store.pipe_file(name, b"")
    assert keys("memory://ids[1]") == ["memory://ids[1]/a/b"]
    files.remove_folder("memory://ids[1]")
    assert not store.exists("/ids[1]/a/b") and store.exists("/ids1/a/b")
    store.rm("/ids1", recursive=True)
