"""Inputs (folders, globs, files, manifests) to references to images, and their bytes."""

from __future__ import annotations

import csv
import glob
import itertools
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from featureid.errors import ImageError, UsageError
from featureid.keys import (
    ImageLocations,
    absolute_root,
    common_root,
    image_key,
    is_absolute,
    readable,
)
from featureid.parallel import map_in_order
from featureid.storage import files
from featureid.storage.records import Failure

_GLOB_MAGIC = re.compile(r"[*?[]")
_PARQUET_BATCH_ROWS = 65_536
# Concurrent requests to a store.
_REQUESTS = 16


@dataclass(frozen=True)
class ImageRef:
    """One image to embed.

    Attributes:
        key: the permanent name of the image.
        uri: its location: a local path or a URI such as ``s3://bucket/a.jpg``.
        version: changes when the bytes change: ``mtime:<ns>,size:<bytes>``, ``etag:<tag>`` or
            ``generation:<number>``; "" if unknown.
    """

    key: str
    uri: str
    version: str = ""


@dataclass(frozen=True)
class InputSource:
    """One input that the user named.

    Attributes:
        path: a folder (read recursively), a glob, a single image, or a manifest; local, or a URI.
        manifest: whether ``path`` is a manifest, that is, a file that lists images.
        column: the column of a CSV or Parquet manifest that holds the paths.
        strip_prefix: the folder that keys start in, see :func:`featureid.keys.image_key`.
        exclude: a folder whose files are ignored, since the run writes there.
    """

    path: str
    manifest: bool = False
    column: str = "path"
    strip_prefix: str = ""
    exclude: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise UsageError("an input is empty; name a folder, a glob or a file")
        for name in ("path", "strip_prefix", "exclude"):
            object.__setattr__(self, name, files.local_path(getattr(self, name)))


def check_source(source: InputSource) -> None:
    """Check that an input exists and is not empty, before a run starts.

    Raises:
        UsageError: it does not exist, the folder or manifest is empty, the glob matches nothing,
            or the manifest does not have the column.
    """
    if next(list_source(source), None) is None:
        kind = "manifest lists no image" if source.manifest else "folder holds no file"
        raise UsageError(f"input {source.path!r}: the {kind}; there is nothing to embed")


def locate(sources: Sequence[InputSource]) -> ImageLocations:
    """Return the locations that keys of these inputs are relative to.

    Inputs with different ``strip_prefix`` have no common root for their relative keys.
    """
    prefix, *other_prefixes = sorted({source.strip_prefix for source in sources})
    relative = any(source.manifest or not is_absolute(source.path) for source in sources)
    folder = os.getcwd() if relative or not is_absolute(prefix or "/") else ""
    if other_prefixes:
        root = ""
    elif prefix or relative:
        root = absolute_root(prefix, folder)
    else:
        root = common_root(map(_top_folder, sources))
    return ImageLocations(root, readable(folder))


def _top_folder(source: InputSource) -> str:
    """Return the folder, or the only object, of all images of an absolute input."""
    path = source.path if files.is_remote(source.path) else os.path.normpath(source.path)
    magic = _GLOB_MAGIC.search(path)
    if magic and (files.is_remote(path) or not os.path.lexists(path)):
        return path[: magic.start()].rpartition("/")[0] or "/"
    if files.is_remote(path) or os.path.isdir(path):
        return path
    return os.path.dirname(path)


def list_source(source: InputSource) -> Iterator[ImageRef | Failure]:
    """Yield every file of an input, in no particular order; only reading shows which are images.

    Links to folders are not followed, and names that start with a dot are skipped.  A folder that
    cannot be listed becomes a :class:`Failure`, and listing continues.

    Raises:
        UsageError: as for :func:`check_source`.
    """
    if source.manifest:
        for path, version in _manifest_versions(map(files.local_path, read_manifest(source))):
            yield _ref(path, version, source)
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
        raise ImageError("read", "not-found", "no such file, or a broken link") from error
    except IsADirectoryError as error:
        raise ImageError("read", "not-a-file", "a folder or device, not a file") from error
    except OSError as error:
        cause = readable(error.strerror or str(error) or type(error).__name__)
        raise ImageError("read", "unreadable", f"cannot be read: {cause}") from error
    if len(data) > max_bytes:
        raise ImageError(
            "read", "too-large", f"the file is larger than {max_bytes} bytes; raise `max_bytes`"
        )
    return data


def _read_local(uri: str, size: int) -> bytes:
    path = files.local_path(uri)
    # Checked before it is opened: opening a named pipe would block forever.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise IsADirectoryError(path)
    with open(path, "rb") as file:
        return file.read(size)


def _read_remote(uri: str, size: int) -> bytes:
    filesystem, path = files.filesystem(uri)
    try:
        data: bytes = filesystem.cat_file(path, start=0, end=size)
    except OSError:
        raise
    except Exception as error:  # Clients have their own exceptions, few of them OSError.
        raise OSError(f"{type(error).__name__}: {error}") from error
    return data


def _has_magic(path: str) -> bool:
    return _GLOB_MAGIC.search(path) is not None


def _ref(uri: str, version: str, source: InputSource) -> ImageRef:
    return ImageRef(image_key(uri, source.strip_prefix), uri, version)


def local_ref(uri: str) -> ImageRef:
    """Return the reference of an image whose key is its path or URI.

    The source version is that of the local file; a remote one has none.
    """
    version = "" if files.is_remote(uri) else local_version(uri)
    return ImageRef(image_key(uri), uri, version)


def local_version(path: str) -> str:
    """Return the version of a local file: modification time and size; "" if it cannot be read."""
    try:
        found = os.stat(path)
        return f"mtime:{found.st_mtime_ns},size:{found.st_size}"
    except OSError:
        return ""  # Reading the file will say why, in a failure row.


def remote_version(info: dict[str, Any]) -> str:
    """Return the version of an object from its fsspec details: its generation or its ETag."""
    for field in ("generation", "ETag", "etag"):
        if info.get(field):
            return f"{field.lower()}:{str(info[field]).strip(chr(34))}"
    return ""


def _list_local(source: InputSource) -> Iterator[ImageRef | Failure]:
    path = os.path.normpath(source.path)
    if os.path.isdir(path):
        yield from _walk(path, source)
    elif os.path.lexists(path):
        yield _ref(path, local_version(path), source)
    elif _has_magic(path):
        yield from _list_glob(path, source)
    else:
        raise UsageError(f"input {source.path!r}: no such file or folder; check the path")


def _list_glob(pattern: str, source: InputSource) -> Iterator[ImageRef]:
    matched = False
    for path in glob.iglob(pattern, recursive=True):
        if not os.path.isdir(path):
            matched = True
            yield _ref(path, local_version(path), source)
    if not matched:
        raise UsageError(f"input {source.path!r}: the glob matches no file; check it, and quote it")


def _walk(top: str, source: InputSource) -> Iterator[ImageRef | Failure]:
    excluded = os.path.realpath(source.exclude) if source.exclude else None
    unlisted: list[OSError] = []
    for folder, subfolders, names in os.walk(top, onerror=unlisted.append):
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) != excluded
        )
        for name in sorted(names):
            if not name.startswith("."):
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
        if _has_magic(path):
            found = filesystem.glob(inner, detail=True)
        else:
            found = filesystem.find(inner, detail=True)
    if not found:
        raise UsageError(f"input {path!r}: no such object; check the name and your credentials")
    excluded = source.exclude.rstrip("/") + "/" if source.exclude else None
    for name, info in found.items():
        uri = f"{scheme}://{name.lstrip('/')}"
        hidden = any(part.startswith(".") for part in posixpath.relpath(name, inner).split("/"))
        if info["type"] != "file" or (hidden and name != inner and not _has_magic(path)):
            continue
        if excluded is None or not uri.startswith(excluded):
            yield _ref(uri, remote_version(info), source)


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


def read_manifest(source: InputSource) -> Iterator[str]:
    """Yield the paths in a manifest, in its order, without blank ones.

    Text files have one path per line.  In ``.csv`` and ``.tsv`` files with a header line, and in
    ``.parquet`` files, the column ``source.column`` holds the paths.  Relative paths start at the
    current folder, as on a command line.

    Raises:
        UsageError: the manifest is missing or invalid, or does not have the column.
    """
    suffix = PurePosixPath(source.path).suffix.lower()
    try:
        with _open(source.path) as file:
            if suffix == ".parquet":
                yield from _parquet_paths(file, source)
            else:
                yield from _text_paths(file, suffix, source)
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UsageError(f"manifest {source.path!r} cannot be read: {cause}") from error


def _open(path: str) -> IO[bytes]:
    if not files.is_remote(path):
        return open(path, "rb")
    filesystem, inner = files.filesystem(path)
    file: IO[bytes] = filesystem.open(inner, "rb")
    return file


def _text_paths(file: IO[bytes], suffix: str, source: InputSource) -> Iterator[str]:
    lines = (line.decode("utf-8-sig" if i == 0 else "utf-8") for i, line in enumerate(file))
    if suffix not in (".csv", ".tsv"):
        yield from filter(None, (line.rstrip("\r\n") for line in lines))
        return
    rows = csv.DictReader(lines, delimiter="\t" if suffix == ".tsv" else ",")
    _check_column(source, list(rows.fieldnames or []))
    yield from filter(None, (row[source.column] for row in rows))


def _parquet_paths(file: IO[bytes], source: InputSource) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        _check_column(source, table.schema_arrow.names)
        for batch in table.iter_batches(_PARQUET_BATCH_ROWS, columns=[source.column]):
            yield from filter(None, batch.column(0).cast(pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise UsageError(f"manifest {source.path!r} cannot be read as Parquet: {error}") from error


def _check_column(source: InputSource, columns: list[str]) -> None:
    if source.column not in columns:
        raise UsageError(
            f"manifest {source.path!r} has no column {source.column!r}; "
            f"it has {', '.join(map(repr, columns)) or 'none'}: name one with `column`"
        )
