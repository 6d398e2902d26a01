"""Files that others published, and of which exactly one version is used: weights and detectors.

The libraries that read them trust them: OpenCV and dlib raise what they like for a damaged file, or
crash, or find other faces than before.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from featureid.errors import ModelError
from featureid.regular_files import read_regular


@dataclass(frozen=True)
class KnownFile:
    """A file with a known content.

    Attributes:
        size: in bytes.
        sha256: in hex.
        remedy: what to do without it, at the end of a message.
    """

    size: int
    sha256: str
    remedy: str

    def read(self, path: Path) -> bytes:
        """Return the content of the file at ``path``.

        Raises:
            ModelError: it cannot be read, or is truncated, damaged or another version.
        """
        try:
            data = read_regular(path, self.size + 1)
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}; {self.remedy}") from error
        if len(data) < self.size:
            raise ModelError(
                f"{path} is truncated or another version: it has {len(data)} bytes, not "
                f"{self.size}; {self.remedy}"
            )
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ModelError(
                f"{path} is damaged or another version: its SHA-256 is not {self.sha256}; "
                f"{self.remedy}"
            )
        return data


def file_in_package(package: str, name: str) -> Path | None:
    """Return the path of a file in a package, which is not imported; None without the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / name
