"""Files on disk and in object stores, through one small layer.

A place is a local path, a ``file://`` URI, or any URI that ``fsspec`` supports (``s3://``,
``gs://``). Every error of the file system or store becomes a
:class:`~featureid.errors.StorageError` that names the place and the cause.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from featureid.atomic import make_folders, replace_file
from featureid.errors import StorageError, UsageError
from featureid.keys import has_scheme
from featureid.masking import masked_error
from featureid.regular_files import open_regular
from featureid.storage.stores import cause_of, open_store, write_object

_FILE = "file://"
#: What a path has that can be written in several ways; most have none of it.
_HAS_DOTS = re.compile(r"/\.{0,2}(/|$)")
_EXTRAS = {"s3": "aws", "s3a": "aws", "gs": "gcp", "gcs": "gcp"}
#: How often to try to remove a folder whose files change meanwhile.
_REMOVALS = 3
_HINTS = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "free some space or choose another place",
    errno.EACCES: "check the permissions of the file and its folders",
    errno.EPERM: "check the permissions of the file and its folders",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "the path is a folder, not a file",
    errno.EEXIST: "the path is a device, pipe or socket, not a file",
    errno.ENOENT: "check the spelling",
}


def is_remote(uri: str) -> bool:
    """Return whether a place is in an object store, not on a local disk."""
    return has_scheme(uri) and not uri.startswith(_FILE)


def local_path(uri: str) -> str:
    """Return a local place as a path; in a ``file://`` URI, percent-encoding is decoded.

    Raises:
        UsageError: the URI names another machine.
    """
    if not uri.startswith(_FILE):
        return uri
    host, _, path = uri.removeprefix(_FILE).partition("/")
    if host not in ("", "localhost"):
        raise UsageError(
            f"{uri}: file:// URIs name files on this machine, such as file:///photos/a.jpg, but "
            f"this one names the machine {host!r}"
        )
    return os.fsdecode(unquote_to_bytes(os.fsencode(f"/{path}")))


def expand_home(text: str) -> str:
    """Return a word of a command line with ``~`` and ``~user`` at its start as a shell expands it.

    Shells do so for whole words only, not behind the ``=`` of an option. What names no user stays
    as it is.
    """
    return os.path.expanduser(text) if text.startswith("~") else text


def join(uri: str, *names: str) -> str:
    """Return the place called ``names`` below ``uri``."""
    if is_remote(uri):
        return "/".join([uri.rstrip("/"), *names])
    return os.path.join(local_path(uri), *names)


def absolute(uri: str, folder: str | None = None) -> str:
    """Return the name that all spellings of a local place share; a URI stays as it is.

    It is absolute, without ``.``, ``..`` and superfluous slashes. Links keep their names, except
    before ``..``, which leads to the parent of what a link points to.

    Args:
        uri: a local path, also relative, or a URI.
        folder: the folder that relative paths start in; None for the current one.
    """
    if is_remote(uri):
        return uri
    path = os.path.join(os.getcwd() if folder is None else folder, local_path(uri))
    if not _HAS_DOTS.search(path) or not can_be_path(path):
        return path
    if "/../" in f"{path}/":
        before, _, rest = f"{path}/".rpartition("/../")
        path = os.path.join(os.path.realpath(f"{before}/.."), rest)
    return "/" + os.path.normpath(path).lstrip("/")


class RangeReader:
    """A file that is read in pieces; close it, or use it in a ``with`` block.

    Attributes:
        uri: its place.
        size: its size in bytes when it was opened.
    """

    def __init__(self, uri: str) -> None:
        """Open the file.

        Raises:
            StorageError: it is missing or cannot be read.
        """
        self.uri = uri
        self._handle: int | None = None
        if is_remote(uri):
            self._store, self._path = filesystem(uri)
            with remote_errors("read", uri):
                self.size = int(self._store.size(self._path))
        else:
            self._handle = _open_file(uri)
            self.size = os.fstat(self._handle).st_size

    def read(self, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start`` on.

        Raises:
            StorageError: the file ends before that, or cannot be read.
        """
        if self._handle is None:
            with remote_errors("read", self.uri):
                data: bytes = self._store.cat_file(self._path, start=start, end=start + length)
        else:
            with _translated("read", self.uri):
                data = _read_range(self._handle, start, length)
        if len(data) != length:
            raise StorageError(
                f"{self.uri} ended at byte {start + len(data)} when {length} bytes from {start} "
                "were requested; was it replaced meanwhile? Try again"
            )
        return data

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._handle is not None:
            _close(self._handle)
            self._handle = None

    def __enter__(self) -> RangeReader:
        """Return the reader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def read_bytes(uri: str, max_bytes: int | None = None) -> bytes:
    """Return the content of a file.

    Raises:
        StorageError: it is missing, larger than ``max_bytes``, or cannot be read.
    """
    with RangeReader(uri) as file:
        if max_bytes is not None and file.size > max_bytes:
            raise StorageError(f"{uri} has {file.size} bytes; at most {max_bytes} are read")
        return file.read(0, file.size)


def map_bytes(uri: str) -> memoryview:
    """Return the content of a file, mapped into memory if it is local, otherwise read.

    Raises:
        StorageError: it is missing or cannot be read.
    """
    if is_remote(uri):
        return memoryview(read_bytes(uri))
    handle = _open_file(uri)
    try:
        if os.fstat(handle).st_size == 0:
            return memoryview(b"")  # An empty file cannot be mapped.
        with _translated("read", uri):
            return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))
    finally:
        _close(handle)


def _open_file(uri: str) -> int:
    """Return the descriptor of a local file."""
    with _translated("read", uri):
        return open_regular(_path(uri))


def _read_range(handle: int, start: int, length: int) -> bytes:
    """Return as many bytes as there are; the system returns at most 2 GiB at a time."""
    data = os.pread(handle, length, start)
    if not data or len(data) == length:
        return data
    parts = [data]
    while data:
        start, length = start + len(data), length - len(data)
        data = os.pread(handle, length, start)
        parts.append(data)
    return b"".join(parts)


def _close(handle: int) -> None:
    """Close a file that was only read, whose content is known by now."""
    with contextlib.suppress(OSError):
        os.close(handle)


def exists(uri: str) -> bool:
    """Return whether a file or folder exists.

    Raises:
        StorageError: it cannot be looked for.
    """
    if is_remote(uri):
        store, path = filesystem(uri)
        with remote_errors("look for", uri):
            # Not store.exists: with some stores, it takes missing credentials for a missing file.
            try:
                store.info(path)
            except FileNotFoundError:
                return False
        return True
    try:
        os.stat(_path(uri))
    except FileNotFoundError:
        return False
    except OSError as error:
        _raise("look for", uri, error)
    return True


def size(uri: str) -> int:
    """Return the size of a file in bytes.

    Raises:
        StorageError: it is missing or cannot be opened.
    """
    with RangeReader(uri) as file:
        return file.size


def list_folder(uri: str) -> list[str]:
    """Return the names of the files and folders in a folder, sorted.

    Raises:
        StorageError: there is no such folder, or it cannot be read.
    """
    if is_remote(uri):
        store, path = filesystem(uri)
        with remote_errors("list", uri):
            found = store.ls(path, detail=False)
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)
    with _translated("list", uri):
        return sorted(os.listdir(_path(uri)))


def list_places(uri: str) -> list[str]:
    """Return the names in a folder as :func:`list_folder` does, or none if it does not exist.

    Raises:
        StorageError: it cannot be read.
    """
    return list_folder(uri) if exists(uri) else []


def remove(uri: str) -> None:
    """Remove a file, if it still exists.

    Raises:
        StorageError: it cannot be removed.
    """
    if is_remote(uri):
        store, path = filesystem(uri)
        with remote_errors("remove", uri), contextlib.suppress(FileNotFoundError):
            store.rm_file(path)
    else:
        with _translated("remove", uri), contextlib.suppress(FileNotFoundError):
            os.unlink(_path(uri))


def remove_folder(uri: str) -> None:
    """Remove a folder with all its content, if it still exists; links are removed, not followed.

    Raises:
        StorageError: something in it cannot be removed, or it is itself a link.
    """
    if is_remote(uri):
        store, path = filesystem(uri)
        with remote_errors("remove", uri), contextlib.suppress(FileNotFoundError):
            # Not store.rm, which would take brackets in a name for a glob.
            for name in store.find(path):
                store.rm_file(name)
    else:
        with _translated("remove", uri):
            for _ in range(_REMOVALS):
                with contextlib.suppress(FileNotFoundError):  # Of one file in it, perhaps.
                    shutil.rmtree(_path(uri))
                if not exists(uri):
                    return
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def remove_if_empty(uri: str) -> None:
    """Remove a folder if it is empty; object stores have none that are."""
    if not is_remote(uri):
        with contextlib.suppress(OSError):
            os.rmdir(_path(uri))


def is_local_file(uri: str) -> bool:
    """Return whether a place is a file on a disk."""
    return not is_remote(uri) and os.path.isfile(_path(uri))


def is_link(uri: str) -> bool:
    """Return whether a place is a link to another; object stores have none."""
    return not is_remote(uri) and os.path.islink(_path(uri))


def make_folder(uri: str, private: bool = False) -> None:
    """Make a folder and its parents; object stores need none.

    Args:
        uri: the folder.
        private: see :func:`featureid.atomic.make_folders`.

    Raises:
        StorageError: it cannot be made.
    """
    if not is_remote(uri):
        with _translated("make the folder", uri):
            make_folders(_path(uri), private)


@contextlib.contextmanager
def exclusive(uri: str) -> Iterator[None]:
    """Hold a lock on a folder; other processes that want it wait until it is released.

    Object stores, and some network file systems, have no locks: there, this does nothing. A process
    that ends releases its locks.

    Args:
        uri: a folder.

    Raises:
        StorageError: it cannot be opened.
    """
    if is_remote(uri):
        yield
        return
    with _translated("lock", uri):
        handle = os.open(_path(uri), os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        _close(handle)


def write_atomic(uri: str, chunks: Iterable[bytes]) -> int:
    """Write a file that is there whole or not at all, and return its size.

    On disk, see :func:`featureid.atomic.replace_file`. In an object store, it is one put of chunks
    that are first collected in memory, so that a producer that fails leaves no object.

    Raises:
        StorageError: it cannot be written.
    """
    if is_remote(uri):
        data = b"".join(chunks)
        store, path = filesystem(uri)
        with remote_errors("write", uri):
            write_object(store, path, data)
        return len(data)
    # An OSError is from writing: producers of chunks that read other files raise StorageErrors.
    with _translated("write", uri):
        return replace_file(_path(uri), chunks)


def _path(uri: str) -> str:
    path = local_path(uri)
    if not can_be_path(path):  # The system's functions raise a ValueError for it.
        raise StorageError(f"{uri!r} has a character that no path can have")
    return path


def can_be_path(path: str) -> bool:
    """Return whether the system can have such a path: one without NUL and half characters."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path inside it.

    Raises:
        UsageError: such URIs are not supported, or the package for them is not installed.
        StorageError: the file system cannot be opened, for example without credentials.
    """
    scheme = uri.split("://", 1)[0]
    extra = _EXTRAS.get(scheme)
    try:
        import fsspec  # Only here: local files do not need it.

        # Not url_to_fs, to which "::" in a name means one file system inside of another.
        kind = fsspec.get_filesystem_class(scheme)
        store = open_store(kind, kind._get_kwargs_from_urls(uri))
        path = kind._strip_protocol(uri)
    except ImportError as error:
        wanted = f"featureid[{extra}]" if extra else "the fsspec package for it"
        raise UsageError(
            f"{uri}: no support for {scheme}:// ({error}); install {wanted}"
        ) from error
    except ValueError as error:
        said = masked_error(str(error), uri)
        raise UsageError(f"{uri}: {said}; use a local path, s3:// or gs://") from error
    except Exception as error:
        # Clients of stores raise errors of any kind; all of them mean that it cannot be opened.
        _raise("open", uri, error)
    store.invalidate_cache()  # Another process may have written since the last listing.
    return store, path


def path_in(store: Any, uri: str) -> str | None:
    """Return the path of a URI in an open fsspec file system; None if it is of another."""
    if not is_remote(uri):
        return None
    import fsspec

    try:
        kind = fsspec.get_filesystem_class(uri.split("://", 1)[0])
    except (ImportError, ValueError):
        return None
    return str(kind._strip_protocol(uri)) if isinstance(store, kind) else None


@contextlib.contextmanager
def _translated(action: str, uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise(action, uri, error)


@contextlib.contextmanager
def remote_errors(action: str, uri: str) -> Iterator[None]:
    """Turn any error of a store's client in the block into a StorageError."""
    try:
        yield
    except Exception as error:
        # For missing credentials, denied access or no network, botocore, google-auth and aiohttp
        # have their own exceptions, few of which are an OSError.
        _raise(action, uri, error)


def _raise(action: str, uri: str, error: Exception) -> NoReturn:
    if isinstance(error, OSError) and error.errno is not None:
        cause, hint = os.strerror(error.errno), _HINTS.get(error.errno)
    elif isinstance(error, FileNotFoundError):
        cause, hint = "it is not there", _HINTS[errno.ENOENT]
    else:
        cause, hint = cause_of(error, uri), None
        if is_remote(uri):
            hint = "check the bucket's name, your credentials and the network"
    raise StorageError(f"Cannot {action} {uri}: {cause}" + (f"; {hint}" if hint else "")) from error
