r"""From the location of an image to its key, and back.

A key is the absolute path or the URI of an image, relative to a folder if the user names one. A URI
is without what gives access to it (:mod:`featureid.masking`). Keys are valid Unicode: bytes of a
file name that are not UTF-8 are written as ``\xNN``, and a backslash that would look like the start
of such an escape as ``\x5c``. A key that starts with ``/`` or a scheme such as ``s3://`` is the
whole path or URI; any other is relative to the root of :class:`ImageLocations`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from featureid.errors import UsageError
from featureid.masking import bare_uri

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOOKS_ESCAPED = re.compile(r"\\(?=x(?:5c|[89a-f][0-9a-f]))")


def image_key(uri: str, strip_prefix: str = "") -> str:
    """Return the key of an image.

    Args:
        uri: an absolute path or a URI.
        strip_prefix: a folder, in the same form; "" for none. Images in it get keys that start
            there, unless the rest would be taken for a whole path or URI (``s3://bucket//a.jpg``
            less ``s3://bucket/``).
    """
    whole = readable(bare_uri(uri))
    if not strip_prefix:
        return whole
    folder = readable(bare_uri(strip_prefix))
    rest = whole.removeprefix(folder if folder.endswith("/") else folder + "/")
    return rest if rest and not is_absolute(rest) else whole


def readable(path: str) -> str:
    """Return a path or URI in valid Unicode: bytes that are not UTF-8 are escaped, see above."""
    if path.isascii() and "\\" not in path:
        return path  # As most are, and a collection has millions.
    marked = _LOOKS_ESCAPED.sub(r"\\x5c", path)
    return os.fsencode(marked).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    r"""Return a text without characters that control a terminal or a page, as names may have them.

    Control characters, line breaks, changes of the writing direction and bytes that are not
    Unicode become escapes such as ``\n``, ``\x1b`` or ``\udce9``.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def is_absolute(uri: str) -> bool:
    """Tell whether a path or URI does not depend on the current folder."""
    return uri.startswith("/") or has_scheme(uri)


def is_unicode(text: str) -> bool:
    """Tell whether a path is valid Unicode, that is, whether all of its bytes are UTF-8."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


def has_scheme(uri: str) -> bool:
    """Tell a URI from a path."""
    return "://" in uri and _SCHEME.match(uri) is not None


@dataclass(frozen=True, slots=True)
class ImageLocations:
    """Where the images of a snapshot were when it was made.

    Attributes:
        root: absolute path or URI of the folder that relative keys start in; if all keys are
            absolute, of the folder that holds all images. Written like a key; "" if unknown.
    """

    root: str = ""

    def uri(self, key: str, root: str | os.PathLike[str] | None = None) -> str:
        """Return the absolute path or URI of an image; nothing is looked up there.

        Args:
            key: an image key.
            root: the folder, local or a URI, that the images in the recorded root were moved to.
                If none is recorded, the folder that relative keys start in.

        Raises:
            UsageError: the location is not recorded, or not below the recorded root.
        """
        if root is not None:
            return _join(os.fspath(root), _unescape(self._below_root(key)))
        if is_absolute(key):
            return _unescape(key)
        if not self.root:
            raise UsageError(f"the snapshot does not record where {key!r} starts; give a root")
        return _unescape(_join(self.root, key))

    def _below_root(self, key: str) -> str:
        """Return the path of an image relative to the recorded root, written like a key."""
        if not is_absolute(key):
            below = key
        elif key == self.root:  # The only input is one object.
            below = key.rpartition("/")[2]
        elif self.root and key.startswith(_join(self.root, "")):
            below = key.removeprefix(_join(self.root, ""))
        else:
            recorded = (
                f"is not below the recorded root {self.root!r}" if self.root else "has no root"
            )
            raise UsageError(f"{key!r} {recorded}, which another root would replace")
        if ".." in below.split("/"):
            raise UsageError(f"{key!r} leads out of the root; it has no place below another one")
        return below


def common_root(folders: Iterable[str]) -> str:
    """Return the deepest folder that holds all of these absolute ones; "" if there is none.

    Objects of different buckets or stores have none.
    """
    common: list[str] = []
    names = (bare_uri(folder).rstrip("/").split("/") for folder in folders)
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    if common == [""]:
        return "/"
    without_bucket = bool(common) and common[0].endswith(":") and len(common) < 3
    return "" if without_bucket else readable("/".join(common))


def _join(folder: str, rest: str) -> str:
    return f"{folder}{rest}" if not folder or folder.endswith("/") else f"{folder}/{rest}"


def _unescape(text: str) -> str:
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    return os.fsdecode(raw)
