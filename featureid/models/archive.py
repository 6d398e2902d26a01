"""Deterministic zip files whose members are stored, not compressed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

from featureid.errors import BundleError

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_stored_zip(members: Mapping[str, bytes], comment: bytes = b"") -> bytes:
    """Return a zip file of ``members`` in the given order; the same members give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # zipfile's default depends on the machine
            archive.writestr(info, data)
        archive.comment = comment
    return buffer.getvalue()


def read_stored_zip(data: bytes) -> dict[str, bytes]:
    """Return the members of a zip file by name, each of which must be stored and occur once.

    A stored member cannot be larger than the file, so memory is bounded by the size of ``data``.

    Raises:
        BundleError: not a zip file, or damaged, or a member is compressed, encrypted or repeated.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                _check_stored(info, len(data))
            names = archive.namelist()
            if len({*names}) != len(names):
                raise BundleError(f"a member of the zip file is repeated: {sorted(names)}")
            return {name: archive.read(name) for name in names}
    except (
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise BundleError(f"not a complete zip file: {error}") from error


def _check_stored(info: zipfile.ZipInfo, available: int) -> None:
    encrypted = info.flag_bits & 1
    if encrypted or info.compress_type != zipfile.ZIP_STORED:
        raise BundleError(f"member {info.filename} is compressed or encrypted")
    if info.file_size != info.compress_size or info.file_size > available:
        raise BundleError(
            f"member {info.filename} has a wrong size in its header, {info.file_size}"
        )
