"""The pictures of snapshots' rows: where each image is, and where its face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featureid.masking import bare_uri
from featureid.reports.page import Box, Picture, counted
from featureid.storage.reader import Snapshot
from featureid.storage.records import WHOLE_IMAGE


def picture_of(
    snapshot: Snapshot, key: str, face: int | None = None, root: str | None = None, **shown: Any
) -> Picture:
    """Return the picture of a row of a snapshot.

    Args:
        snapshot: where the row is.
        key: the image key.
        face: index of a face, which is then shown without most of its image; None for all of it.
        root: the folder that the images were moved to; None if they are where they were.
        shown: further attributes of the :class:`~featureid.reports.page.Picture`.
    """
    return Picture(key, snapshot.locate(key, root), _box(snapshot, key, face), **shown)


def _box(snapshot: Snapshot, key: str, face: int | None) -> Box | None:
    if face is None or face == WHOLE_IMAGE:
        return None
    boxes = {found.index: found.box for found, _ in snapshot.faces(key)}
    return boxes.get(face)


def facts_of(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    """Return what describes a snapshot."""
    info, counts = snapshot.manifest.info, snapshot.manifest.counts
    size = sum(snapshot.manifest.file_sizes().values())
    facts: Sequence[tuple[str, str]] = (
        ("Snapshot", info.snapshot),
        ("Folder", bare_uri(snapshot.folder)),
        ("Made", f"{info.created} by {info.writer}"),
        ("Model", f"{info.model.name}, {info.model.dimension} x {info.model.dtype}"),
        ("Model digest", info.model.digest),
        ("Faces", info.model.faces),
        ("Hash", info.model.hash),
        ("Images were in", info.locations.root),
        ("Images", f"{counts.images:,}: {counts.embedded:,} embedded, {counts.failed:,} failed"),
        ("Rows", f"{snapshot.num_rows:,} in {counted(snapshot.num_shards, 'shard')}"),
        ("Size", f"{size / 1e6:.2f} MB"),
    )
    return tuple((name, value) for name, value in facts if value)
