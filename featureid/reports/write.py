"""Write a report as one HTML page; one with many pictures keeps them in a folder beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import quote

from featureid.errors import UsageError
from featureid.parallel import map_in_order
from featureid.reports.html import View, data_uri, render
from featureid.reports.page import Group, Report
from featureid.reports.thumbnails import Thumbnail, make_thumbnail
from featureid.storage import files

#: Bytes of pictures that the page itself holds; those that follow go into a folder beside it.
PAGE_BYTES = 4_000_000
#: Pictures that a report shows; of more, only the names.
MOST_PICTURES = 50_000
# Groups whose pictures are made at the same time.
_GROUPS_AHEAD = 64

_PICTURE = re.compile(r"[0-9a-f]{20}\.jpg")


def check_report(place: str) -> None:
    """Check that a report can be written, before the work that it shows.

    Raises:
        UsageError: the place does not end in ``.html``.
    """
    if not place.endswith(".html"):
        raise UsageError(f"`report` is {place!r}; give a file whose name ends in .html")


def write_report(
    place: str, report: Report, progress: Callable[[int], None] = lambda pictures: None
) -> None:
    """Write a report.

    The page needs nothing else but that folder, which has its name with ``.files`` at the end, and
    asks for nothing from elsewhere.  It is there whole or not at all.

    Args:
        place: local path or URI of the page; its name ends in ``.html``.
        report: what it shows.
        progress: called with the number of pictures that have been made.

    Raises:
        StorageError: it cannot be written.
        UsageError: as :func:`check_report`.
    """
    check_report(place)
    pictures = _Pictures(place, progress)
    text = render(report, pictures.of_groups)
    # A title may be a path that is not UTF-8.
    files.write_atomic(place, (part.encode("utf-8", "backslashreplace") for part in text))
    pictures.tidy()


@dataclass
class _Pictures:
    """Makes the pictures of a report, and decides which of them the page itself holds."""

    place: str
    progress: Callable[[int], None]
    made: int = 0
    held_bytes: int = 0
    beside: set[str] = field(default_factory=set)

    @property
    def folder(self) -> str:
        """The folder beside the page."""
        return self.place.removesuffix(".html") + ".files"

    def of_groups(self, groups: Iterable[Group]) -> Iterator[tuple[Group, list[View]]]:
        """Yield groups with their pictures; some groups' pictures are made at a time, in parallel.

        So a group that is yielded may be long gone from memory when the last one is.
        """
        remaining = iter(groups)
        while batch := [*islice(remaining, _GROUPS_AHEAD)]:
            pictures = [picture for group in batch for picture in group.pictures]
            room = max(0, MOST_PICTURES - self.made)
            made = [thumbnail for _, thumbnail in map_in_order(make_thumbnail, pictures[:room])]
            made += [Thumbnail(missing="not-shown")] * (len(pictures) - len(made))
            self.made += len(pictures)
            self.progress(len(pictures))
            ordered = iter(made)
            for group in batch:
                thumbnails = [*islice(ordered, len(group.pictures))]
                yield (
                    group,
                    [
                        (picture, thumbnail, self._source(thumbnail))
                        for picture, thumbnail in zip(group.pictures, thumbnails, strict=True)
                    ],
                )

    def _source(self, thumbnail: Thumbnail) -> str:
        """Return where the page finds a picture; "" if there is none."""
        if not thumbnail.data:
            return ""
        if self.held_bytes + len(thumbnail.data) <= PAGE_BYTES:
            self.held_bytes += len(thumbnail.data)
            return data_uri(thumbnail.data, "image/jpeg")
        if not self.beside:
            files.make_folder(self.folder)
        # Named by their content, so that a page that is there already keeps its pictures until it
        # is replaced.
        name = f"{hashlib.sha256(thumbnail.data).hexdigest()[:20]}.jpg"
        if name not in self.beside:
            self.beside.add(name)
            files.write_atomic(files.join(self.folder, name), [thumbnail.data])
        return f"{quote(self.folder.rpartition('/')[2])}/{name}"

    def tidy(self) -> None:
        """Delete the pictures that only an earlier page needed."""
        if not files.exists(self.folder):
            return
        for name in files.list_folder(self.folder):
            if name not in self.beside and _PICTURE.fullmatch(name):
                files.remove(files.join(self.folder, name))
