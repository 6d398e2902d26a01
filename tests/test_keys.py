"""From images to keys and back: every key leads to the file that it was made of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.errors import UsageError
from featureid.inputs import ImageRef, InputSource, list_source, locate
from featureid.keys import ImageLocations, common_root, image_key

# Names that could be taken for something else: an escaped byte, a glob, a hidden folder's parent.
NAMES = (b"a.jpg", "é🙂.jpg".encode(), b"caf\xe9", rb"caf\xe9", rb"\x5cxe9", rb"\x", b"[1]", b"s3:")
FOLDERS = (b"photos", b"other", *NAMES[1:])


def test_a_key_is_the_path_less_the_folder() -> None:
    for prefix in ("/photos", "/photos/"):
        assert image_key("/photos/2026/a.jpg", prefix) == "2026/a.jpg"
        assert image_key("/photos", prefix) == "/photos"
        assert image_key("/photographs/a.jpg", prefix) == "/photographs/a.jpg"
        assert image_key("s3://photos/a.jpg", prefix) == "s3://photos/a.jpg"
    assert image_key("/photos/a.jpg") == "/photos/a.jpg"
    assert image_key("/photos/a.jpg", "/") == "photos/a.jpg"
    assert image_key("s3://bucket/photos/a.jpg", "s3://bucket") == "photos/a.jpg"


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("s3://bucket//etc/passwd", "s3://bucket/"),
        ("s3://bucket/http://x.org/a.jpg", "s3://bucket/"),
    ],
)
def test_nothing_is_taken_off_where_the_rest_would_mean_another_place(
    uri: str, prefix: str
) -> None:
    key = image_key(uri, prefix)
    assert key == uri == ImageLocations(prefix).uri(key)


def test_bytes_that_are_not_utf8_are_written_as_escapes_and_backslashes_told_apart() -> None:
    names = (b"caf\xe9.jpg", rb"caf\xe9.jpg", rb"caf\x5cxe9.jpg", rb"caf\xE9.jpg", rb"a\b.jpg")
    keys = [image_key(os.fsdecode(b"/x/" + name)) for name in names]
    assert keys == [
        r"/x/caf\xe9.jpg",
        r"/x/caf\x5cxe9.jpg",
        r"/x/caf\x5cx5cxe9.jpg",
        r"/x/caf\xE9.jpg",
        r"/x/a\b.jpg",
    ]
    for name, key in zip(names, keys, strict=True):
        key.encode()
        assert os.fsencode(ImageLocations().uri(key)) == b"/x/" + name


path_bytes = st.lists(
    st.one_of(st.sampled_from(FOLDERS), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4
).map(lambda parts: b"/".join(parts).replace(b"\0", b"0"))


@given(
    start=st.sampled_from(["/", "/srv/", "s3://", "gs://bucket/"]),
    path=path_bytes,
    prefix=st.sampled_from(["", "/", "/srv", "s3://", "gs://bucket", "cut", "cut/"]),
    cut=st.integers(1, 8),
)
def test_every_key_leads_back_to_its_path(start: str, path: bytes, prefix: str, cut: int) -> None:
    uri = start + os.fsdecode(path)
    if prefix.startswith("cut"):  # a folder of the image itself
        prefix = prefix.replace("cut", "/".join(uri.split("/")[:cut]))
    key = image_key(uri, prefix)
    key.encode()
    assert ImageLocations(image_key(prefix)).uri(key) == uri


@contextmanager
def current_folder(folder: str | Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


files_below = st.lists(
    st.tuples(st.sampled_from(FOLDERS), st.sampled_from(FOLDERS), st.sampled_from(NAMES)),
    min_size=1,
    max_size=6,
).map(lambda paths: sorted({b"/".join(path) for path in paths}))
input_kinds = st.sampled_from(["all", "top", "folder", "glob", "file", "manifest"])


def make_source(kind: str, path: str, absolute: bool, prefix: str) -> InputSource:
    """Return an input of this kind that has the file ``path``, relative to the current folder."""
    folder = os.path.dirname(path)
    named = {
        "all": ".",
        "top": path.split("/")[0],
        "folder": f"./{folder}/",
        "glob": "photos/*/*" if path.startswith("photos/") else "./*/../*/*/*",
        "file": path,
        "manifest": "list.txt",
    }[kind]
    if absolute:
        named = os.path.join(os.getcwd(), named)
    if kind == "manifest":
        lines = [path, f"./{path}", f"{os.getcwd()}/{path}", Path(path).absolute().as_uri()]
        Path("list.txt").write_bytes(os.fsencode("\n".join(lines)))
    return InputSource(named, manifest=kind == "manifest", strip_prefix=prefix)


@settings(deadline=None, max_examples=150)
@given(
    paths=files_below,
    kinds=st.lists(st.tuples(input_kinds, st.booleans()), min_size=1, max_size=3),
    prefix=st.sampled_from(
        ["", ".", "./", "photos", "other/", "photos/other", "HERE", "HERE/photos"]
    ),
)
def test_the_key_of_every_listed_image_leads_to_its_file_from_anywhere(
    paths: list[bytes], kinds: list[tuple[str, bool]], prefix: str
) -> None:
    with tempfile.TemporaryDirectory() as top:
        here = os.path.realpath(top) + "/here"
        for path in paths:
            place = os.path.join(os.fsencode(here), path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            Path(os.fsdecode(place)).write_bytes(path)
        with current_folder(here):
            sources = [
                make_source(
                    kind, os.fsdecode(paths[n % len(paths)]), absolute, prefix.replace("HERE", here)
                )
                for n, (kind, absolute) in enumerate(kinds)
            ]
            locations = locate(sources)
            listed = [item for source in sources for item in list_source(source)]
            refs = [item for item in listed if isinstance(item, ImageRef)]
            assert refs == listed
        assert len({ref.key for ref in refs}) == len({os.path.realpath(ref.uri) for ref in refs})
        check_locations(locations, refs)
        check_moved(locations, refs, here)


def check_locations(locations: ImageLocations, refs: list[ImageRef]) -> None:
    for ref in refs:
        if locations.root or ref.key.startswith("/"):
            assert locations.uri(ref.key) == ref.uri


def check_moved(locations: ImageLocations, refs: list[ImageRef], here: str) -> None:
    """Move the recorded root and find every image there, or be told that it was elsewhere."""
    root = ImageLocations().uri(locations.root) if locations.root else ""
    contents = {ref.key: Path(ref.uri).read_bytes() for ref in refs}
    moved = f"{here}-moved"
    if os.path.isdir(root):
        shutil.move(root, moved)
    for key, content in contents.items():
        try:
            place = Path(locations.uri(key, moved))
        except UsageError:
            whole = locations.uri(key)
            assert not root or not whole.startswith(f"{root}/")
        else:
            assert place.read_bytes() == content


def test_inputs_that_have_the_prefix_and_others_are_told_apart(tmp_path: Path) -> None:
    for name in ("photos/other/a.jpg", "other/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name)
    with current_folder(tmp_path):
        sources = [InputSource(name, strip_prefix="photos") for name in ("photos", "other")]
        locations = locate(sources)
        keys = {ref.key for source in sources for ref in list_source(source)}
    assert keys == {"other/a.jpg", f"{tmp_path}/other/a.jpg"}
    assert locations == ImageLocations(f"{tmp_path}/photos")
    assert Path(locations.uri("other/a.jpg")).read_text() == "photos/other/a.jpg"
    assert Path(locations.uri(f"{tmp_path}/other/a.jpg")).read_text() == "other/a.jpg"
    assert locations.uri("other/a.jpg", "s3://new/") == "s3://new/other/a.jpg"
    with pytest.raises(UsageError, match="not below the recorded root"):
        locations.uri(f"{tmp_path}/other/a.jpg", "/new")


@pytest.mark.parametrize(
    ("inputs", "prefix", "root"),
    [
        (["s3://b/photos", "s3://b/photographs/2026"], "", "s3://b"),
        (["s3://b/photos/2026-*/*.jpg"], "", "s3://b/photos"),
        (["s3://b*/x"], "", ""),
        (["s3://b/x", "gs://b/x"], "", ""),
        (["s3://b/x", "/data/x"], "", ""),
        (["s3://b/x", "/data/x"], "s3://b/", "s3://b"),
        (["gs://b/x/"], "gs://b/x/", "gs://b/x"),
        (["/nowhere/a*.jpg", "/nowhere/x/"], "", "/nowhere"),
        (["/nowhere/a.jpg", "/elsewhere/x/"], "", "/"),
        (["/nowhere/a.jpg"], "/", "/"),
    ],
)
def test_the_root_is_the_prefix_or_the_common_parent(
    inputs: list[str], prefix: str, root: str
) -> None:
    sources = [InputSource(name, strip_prefix=prefix) for name in inputs]
    assert locate(sources) == ImageLocations(root)


def test_the_root_of_relative_inputs_is_absolute(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with current_folder(tmp_path):
        assert locate([InputSource("photos")]).root == f"{tmp_path}/photos"
        assert locate([InputSource("*.jpg"), InputSource("photos")]).root == str(tmp_path)
        assert locate([InputSource("/x", strip_prefix="./photos/")]).root == f"{tmp_path}/photos"
        assert locate([InputSource("photos"), InputSource("a.txt", manifest=True)]).root == ""


def test_all_spellings_of_a_path_are_one_key(tmp_path: Path) -> None:
    (tmp_path / "photos[1]").mkdir()
    (tmp_path / "photos[1]" / "a b.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "photos[1]")
    place = f"{tmp_path}/photos[1]/a b.jpg"
    spellings = [
        "a b.jpg",
        "./a b.jpg",
        ".//a b.jpg",
        "../photos[1]/a b.jpg",
        "../link/../photos[1]/a b.jpg",
        "*.jpg",
        ".",
        f"{tmp_path}/./photos[1]/",
        f"/{place}",
        f"file://{tmp_path}/photos%5B1%5D/a%20b.jpg",
    ]
    with current_folder(tmp_path / "photos[1]"):
        for spelling in spellings:
            (ref,) = list_source(InputSource(spelling))
            assert isinstance(ref, ImageRef)
            assert (ref.key, ref.uri) == (place, place), spelling
        Path("list.txt").write_text("\n".join(spellings[:5] + spellings[8:]))
        listed = list(
            list_source(InputSource("list.txt", manifest=True, strip_prefix="../link/.."))
        )
    assert len(listed) == 7 and {item.key for item in listed} == {"photos[1]/a b.jpg"}


def test_a_folder_above_a_link_is_that_of_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "disk" / "photos").mkdir(parents=True)
    (tmp_path / "disk" / "a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "photos")
    (ref,) = list_source(InputSource(f"{tmp_path}/link/../a.jpg"))
    assert ref.key == f"{tmp_path}/disk/a.jpg"


def test_another_root_replaces_the_recorded_one() -> None:
    stores = ImageLocations("s3://bucket/photos")
    assert stores.uri("s3://bucket/photos/2026/a.jpg", "/mnt/new") == "/mnt/new/2026/a.jpg"
    assert stores.uri("2026/a.jpg", Path("/mnt/new")) == "/mnt/new/2026/a.jpg"
    assert stores.uri("2026/a.jpg") == "s3://bucket/photos/2026/a.jpg"
    one = ImageLocations("s3://bucket/photos/a.jpg")  # the only input
    assert one.uri("s3://bucket/photos/a.jpg", "/mnt/new") == "/mnt/new/a.jpg"
    whole = ImageLocations("/")
    assert (whole.uri("a.jpg"), whole.uri("/x/a.jpg", "/new")) == ("/a.jpg", "/new/x/a.jpg")
    odd = ImageLocations("/caf\\xe9")
    assert os.fsencode(odd.uri("\\xe8")) == b"/caf\xe9/\xe8"
    assert os.fsencode(odd.uri("\\xe8", "/caf\\xe9")) == b"/caf\\xe9/\xe8"


@pytest.mark.parametrize(
    ("key", "root"),
    [
        ("s3://other/a.jpg", "/new"),
        ("/etc/passwd", "/new"),
        ("../../etc/passwd", "/new"),
        ("s3://bucket/photos/../a.jpg", "/new"),
        ("s3://bucket/photographs/a.jpg", "/new"),
    ],
)
def test_another_root_is_never_left(key: str, root: str) -> None:
    with pytest.raises(UsageError, match=r"not below the recorded root|leads out of the root"):
        ImageLocations("s3://bucket/photos").uri(key, root)


def test_where_nothing_is_recorded_relative_keys_need_a_root() -> None:
    nothing = ImageLocations()
    with pytest.raises(
        UsageError, match=r"does not record where '2026/a\.jpg' starts; give a root"
    ):
        nothing.uri("2026/a.jpg")
    assert nothing.uri("2026/a.jpg", "/mnt") == "/mnt/2026/a.jpg"
    assert nothing.uri("2026/a.jpg", "") == "2026/a.jpg"
    assert nothing.uri("/data/a.jpg") == "/data/a.jpg"
    with pytest.raises(UsageError, match=r"'/data/a\.jpg' has no root"):
        nothing.uri("/data/a.jpg", "/mnt")


def test_inputs_with_different_prefixes_have_no_common_root() -> None:
    sources = [InputSource("/a", strip_prefix="/a"), InputSource("/b", strip_prefix="/b")]
    assert locate(sources).root == ""


def test_the_common_root_of_folders() -> None:
    assert common_root(["/data/a/b", "/data/ab", "/data/a"]) == "/data"
    assert common_root(["/data/a/"]) == "/data/a"
    assert common_root(["/"]) == "/"
    assert common_root(["s3://b"]) == "s3://b"
    assert common_root([]) == ""
