"""Inputs (folders, globs, files, manifests) to references to images, and their bytes."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from featureid.errors import ImageError, UsageError
from featureid.input_manifest import MANIFEST_SUFFIXES, read_manifest
from featureid.keys import (
    ImageLocations,
    common_root,
    has_scheme,
    image_key,
    is_absolute,
    readable,
)
from featureid.masking import bare_uri
from featureid.output_files import local_outputs, named_outputs, remote_outputs, without_links
from featureid.parallel import map_in_order
from featureid.regular_files import read_regular
from featureid.storage import files
from featureid.storage.records import Failure
from featureid.storage.stores import cause_of

_LOG = logging.getLogger(__name__)
_GLOB_MAGIC = re.compile(r"[*?[]")
# Concurrent requests to a store.
_REQUESTS = 16
# Images of an input among which one has to be in `strip_prefix`.
_PREFIX_SAMPLE = 1000


@dataclass(frozen=True)
class ImageRef:
    """One image to embed.

    Attributes:
        key: the permanent name of the image.
        uri: its location: a local path or a URI such as ``s3://bucket/a.jpg``.
        version: changes when the bytes change: ``mtime:<ns>,size:<bytes>``, ``etag:<tag>`` or
            ``generation:<number>``; "" if unknown.
        known: whether the previous snapshot has rows of it, which stay if it cannot be read.
    """

    key: str
    uri: str
    version: str = ""
    known: bool = False


def current_folder() -> str:
    """Return the path of the current folder.

    Raises:
        UsageError: it has been removed.
    """
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError("the current folder has been removed; change to another") from error


@dataclass(frozen=True)
class InputSource:
    """One input that the user named.

    Attributes:
        path: a folder (read recursively), a glob, a single image, or a manifest; local, or a URI.
        manifest: whether ``path`` is a manifest, that is, a file that lists images.
        column: the column of a manifest with several that holds the paths.
        strip_prefix: the folder that keys start in; "" for keys that are absolute paths or URIs.
        output: the folder that the run writes to, "" for none; what featureid has written, there
            and elsewhere, is left out. None lists that, too.
        folder: the folder that relative paths start in, here and in the manifest.
    """

    path: str
    manifest: bool = False
    column: str = "path"
    strip_prefix: str = ""
    output: str | None = ""
    folder: str = field(default_factory=current_folder)

    def __post_init__(self) -> None:
        if not self.path:
            raise UsageError("an input is empty; name a folder, a glob or a file")
        object.__setattr__(self, "path", files.local_path(self.path))
        for name in ("strip_prefix", "output"):
            if getattr(self, name):
                place = files.absolute(getattr(self, name), self.folder)
                object.__setattr__(self, name, place)

    @property
    def place(self) -> str:
        """The absolute path, or the URI."""
        return files.absolute(self.path, self.folder)


def check_sources(sources: Iterable[InputSource]) -> tuple[InputSource, ...]:
    """Check that inputs exist and are not empty, before a run starts.

    Returns:
        The inputs that hold images: not the output folder itself, as a shell's ``*`` may name it.

    Raises:
        UsageError: an input does not exist, a folder or manifest is empty, a glob matches nothing,
            a manifest does not have the column, or there is nothing but the output.
    """
    filled, keys = [], []
    sources = tuple(sources)
    if len(sources) == 1 and not sources[0].manifest:  # of many, a shell's * may have named it
        _check_no_manifest(sources[0])
    for source in sources:
        some = _first_keys(source)
        if some:
            filled.append(source)
            keys += some
        elif next(list_source(replace(source, output=None)), None) is None:
            kind = "manifest lists no image" if source.manifest else "folder holds no file"
            raise UsageError(f"input {source.path!r}: the {kind}; there is nothing to embed")
    if not filled:
        raise UsageError("the inputs hold only what featureid has written; name folders of images")
    prefixes = {source.strip_prefix for source in filled} - {""}
    if prefixes and all(map(is_absolute, keys)):
        _LOG.warning(
            "`strip_prefix` is %s, but no image is in it, of the first %d at least; keys stay "
            "whole, such as %s",
            " or ".join(repr(bare_uri(prefix)) for prefix in sorted(prefixes)),
            len(keys),
            keys[0],
        )
    return tuple(filled)


def _check_no_manifest(source: InputSource) -> None:
    """Refuse a manifest that is given as if it were an image."""
    looks_so = source.path.lower().endswith(MANIFEST_SUFFIXES)
    if looks_so and (files.is_remote(source.path) or os.path.isfile(source.place)):
        raise UsageError(
            f"input {source.path!r} lists images, by its name, and is none; give it as `manifest`"
        )


def _first_keys(source: InputSource) -> list[str]:
    """Return the first key of an input or, with a prefix, up to the first that has lost it."""
    keys: list[str] = []
    for item in itertools.islice(list_source(source), _PREFIX_SAMPLE):
        keys.append(item.key)
        if not source.strip_prefix or not is_absolute(item.key):
            break
    return keys


def locate(sources: Sequence[InputSource]) -> ImageLocations:
    """Return where the keys of the images of these inputs start.

    Inputs with different ``strip_prefix`` have no common root for their relative keys; where the
    images of a manifest are is not known before it is read.
    """
    prefix, *other_prefixes = sorted({source.strip_prefix for source in sources})
    if prefix and not other_prefixes:
        bare = prefix if prefix.endswith("://") else prefix.rstrip("/")
        return ImageLocations(image_key(bare or "/"))
    if prefix or other_prefixes or any(source.manifest for source in sources):
        return ImageLocations()
    return ImageLocations(common_root(map(_top_folder, sources)))


def _top_folder(source: InputSource) -> str:
    """Return the folder, or the only object, of all images of an input."""
    magic = _GLOB_MAGIC.search(source.path)
    if magic and (files.is_remote(source.path) or not os.path.lexists(source.place)):
        top = source.path[: magic.start()].rpartition("/")
        return files.absolute("".join(top[:2]), source.folder)
    if files.is_remote(source.path) or os.path.isdir(source.place):
        return source.place
    return os.path.dirname(source.place)


def list_source(source: InputSource) -> Iterator[ImageRef | Failure]:
    """Yield every file of an input, in no particular order; only reading shows which are images.

    Links to folders are not followed, and names that start with a dot are skipped.  A folder that
    cannot be listed becomes a :class:`Failure`, and listing continues.

    Raises:
        UsageError: as for :func:`check_sources`.
    """
    if source.manifest:
        yield from _list_manifest(source)
    elif files.is_remote(source.path):
        yield from _list_remote(source)
    else:
        yield from _list_local(source)


def read_image(uri: str, max_bytes: int) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: the file is missing, not a file, unreadable, or larger than ``max_bytes``.
    """
    try:
        read = _read_remote if files.is_remote(uri) else _read_local
        data = read(uri, max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("read", "not-found", _not_found(uri)) from error
    except (IsADirectoryError, FileExistsError) as error:
        raise ImageError("read", "not-a-file", "a folder or device, not a file") from error
    except OSError as error:
        cause = readable(error.strerror or str(error) or type(error).__name__)
        raise ImageError("read", "unreadable", f"cannot be read: {cause}") from error
    if len(data) > max_bytes:
        raise ImageError(
            "read", "too-large", f"the file is larger than {max_bytes} bytes; raise `max_bytes`"
        )
    return data


def _not_found(uri: str) -> str:
    if not files.can_be_path(uri) or uri == readable(uri):
        return "no such file, or a broken link"
    return (
        "no such file, or a broken link; its name is not UTF-8: if a manifest names it, is the "
        "manifest in another encoding, such as Latin-1?"
    )


def _read_local(uri: str, size: int) -> bytes:
    path = files.local_path(uri)
    if not files.can_be_path(path):
        raise FileNotFoundError(path)  # Asked for it, the system raises a ValueError.
    return read_regular(path, size)


def _read_remote(uri: str, size: int) -> bytes:
    filesystem, path = files.filesystem(uri)
    try:
        data: bytes = filesystem.cat_file(path, start=0, end=size)
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:  # Clients have their own exceptions, few of them OSError.
        raise OSError(cause_of(error, uri)) from error
    return data


def _has_magic(path: str) -> bool:
    return _GLOB_MAGIC.search(path) is not None


def _ref(uri: str, version: str, source: InputSource) -> ImageRef:
    return ImageRef(image_key(uri, source.strip_prefix), uri, version)


def local_ref(uri: str) -> ImageRef:
    """Return the reference of an image whose key is its path or URI.

    The source version is that of the local file; a remote one has none.
    """
    version = "" if files.is_remote(uri) else local_version(files.local_path(uri))
    return ImageRef(image_key(uri), uri, version)


def local_version(path: str) -> str:
    """Return the version of a local file: modification time and size; "" if it cannot be read."""
    try:
        found = os.stat(path)
        return f"mtime:{found.st_mtime_ns},size:{found.st_size}"
    except (OSError, ValueError):  # ValueError: the name has a NUL character.
        return ""  # Reading the file will say why, in a failure row.


def is_there(ref: ImageRef) -> bool:
    """Return whether an image was there when it was listed, as far as listing could tell.

    A manifest may name files that do not exist, and links may lead nowhere; such local files have
    no version. Stores that report no versions are taken at their word.
    """
    return bool(ref.version) or files.is_remote(ref.uri)


def remote_version(info: dict[str, Any]) -> str:
    """Return the version of an object from its fsspec details: its generation or its ETag."""
    for name in ("generation", "ETag", "etag"):
        if info.get(name):
            return f"{name.lower()}:{str(info[name]).strip(chr(34))}"
    return ""


def _list_local(source: InputSource) -> Iterator[ImageRef | Failure]:
    place = source.place
    if os.path.isdir(place):
        yield from _walk(place, source)
    elif os.path.lexists(place):
        if not local_outputs(source.output).hide(place):
            yield _ref(place, local_version(place), source)
    elif _has_magic(source.path):
        yield from _list_glob(source)
    else:
        raise UsageError(f"input {source.path!r}: no such file or folder; check the path")


def _list_glob(source: InputSource) -> Iterator[ImageRef]:
    own, resolve = local_outputs(source.output, _top_folder(source)), without_links()
    matched = False
    for path in glob.iglob(source.path, root_dir=source.folder, recursive=True):
        place = files.absolute(path, source.folder)
        if not os.path.isdir(place):
            matched = True
            if not own.hide(resolve(place)):
                yield _ref(place, local_version(place), source)
    if not matched:
        raise UsageError(f"input {source.path!r}: the glob matches no file; check it, and quote it")


def _walk(top: str, source: InputSource) -> Iterator[ImageRef | Failure]:
    own, real_top = local_outputs(source.output, top), os.path.realpath(top).rstrip("/")
    unlisted: list[OSError] = []
    for folder, subfolders, names in os.walk(top, onerror=unlisted.append):
        # No link leads from `top` to `folder`, since links to folders are not followed.
        real = real_top + folder[len(top.rstrip("/")) :].rstrip("/")
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and not own.hide(f"{real}/{name}")
        )
        for name in sorted(names):
            if not name.startswith(".") and not own.hide(f"{real}/{name}"):
                path = os.path.join(folder, name)
                yield _ref(path, local_version(path), source)
    for error in unlisted:
        key = image_key(str(error.filename), source.strip_prefix)
        yield Failure(key, "list", "unreadable", f"the folder cannot be listed: {error.strerror}")


def _list_remote(source: InputSource) -> Iterator[ImageRef]:
    path = source.path
    scheme = path.partition("://")[0]
    filesystem, inner = files.filesystem(path)
    with files.remote_errors("list", path):
        # An object or folder of this very name comes first, as on a disk.
        found = filesystem.find(inner, detail=True)
        is_glob = not found and _has_magic(path)
        if is_glob:
            found = filesystem.glob(inner, detail=True)
        # For web servers, a single file is found without its details.
        found = {name: info or filesystem.info(name) for name, info in found.items()}
    if not found:
        raise UsageError(f"input {path!r}: no such object; check the name and your credentials")
    own = remote_outputs(source.output, filesystem, _top_folder(source), found)
    for name, info in found.items():
        hidden = any(part.startswith(".") for part in posixpath.relpath(name, inner).split("/"))
        if info["type"] != "file" or (hidden and name != inner and not is_glob):
            continue
        if not own.hide(name):
            uri = name if has_scheme(name) else f"{scheme}://{name.lstrip('/')}"
            yield _ref(uri, remote_version(info), source)


def _list_manifest(source: InputSource) -> Iterator[ImageRef]:
    listed = read_manifest(files.absolute(source.path, source.folder), source.column)
    places = (files.absolute(path, source.folder) for path in listed)
    images = itertools.filterfalse(named_outputs(source.output).hide, places)
    for place, version in _manifest_versions(images):
        yield _ref(place, version, source)


def _manifest_versions(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield every path with its version; many requests to object stores run at once."""
    for remote, some in itertools.groupby(paths, files.is_remote):
        if remote:
            yield from map_in_order(_asked_version, some, _REQUESTS)
        else:
            yield from ((path, local_version(path)) for path in some)


def _asked_version(uri: str) -> str:
    """Return the version of an object from its store; "" if it cannot be read."""
    try:
        filesystem, path = files.filesystem(uri)
        return remote_version(filesystem.info(path))
    except Exception:  # Clients have their own exceptions.
        return ""  # Reading the object will say why, in a failure row.
