"""Labeled images: of snapshots, or embedded here and now."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.embedding import Embedder, embed_all
from featureid.errors import UsageError
from featureid.evaluation.labels import NamedPairs, class_of, find_named, key_of, read_labels
from featureid.evaluation.trials import Images
from featureid.input_manifest import MANIFEST_SUFFIXES, column_names, read_table
from featureid.inputs import ImageRef, InputSource, check_sources, list_source
from featureid.storage import layout
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import Failure
from featureid.storage.snapshot import is_output

Matrix = npt.NDArray[np.float32]

_LOG = logging.getLogger(__name__)


class LabeledSource:
    """Labeled images that a user names: a folder, a table of paths and labels, or a snapshot.

    Attributes:
        snapshot: where they are embedded already; None for a folder or table.
        refs: the images of a folder or table.
        failures: images that could not be listed; of a snapshot, those without a feature ID.
        keys: of all of them.

    Args:
        data: where they are.
        labels: a table of paths and labels; "" to go by folders, or by ``data`` if that is a table.

    Raises:
        UsageError: there are no images, or two tables with their labels.
        StorageError: a snapshot cannot be read.
    """

    def __init__(self, data: str, labels: str = "") -> None:
        table = data.lower().endswith(MANIFEST_SUFFIXES)
        if table and labels:
            raise UsageError(f"{data!r} has labels of its own; leave out `labels`")
        self._table = data if table else labels
        self.snapshot = open_snapshot(data) if is_output(data) else None
        self.refs: list[ImageRef] = []
        if self.snapshot is not None:
            self._root = self.snapshot.manifest.info.locations.root
            self.failures = [*self.snapshot.failures()]
            keys: Iterable[str] = self.snapshot
        else:
            source = InputSource(data, manifest=table, strip_prefix="" if table else data)
            check_sources([source])
            self._root = source.strip_prefix
            listed = [*list_source(source)]
            self.refs = [item for item in listed if isinstance(item, ImageRef)]
            self.failures = [item for item in listed if isinstance(item, Failure)]
            keys = (ref.key for ref in self.refs)
        self.keys = [*keys, *(failure.key for failure in self.failures)]

    def labels(self) -> dict[str, str]:
        """Return the class of each image by its key.

        Raises:
            UsageError: no image has one.
        """
        if not self._table:
            return labels_by_folder(self.keys)
        return labels_of_keys(read_labels(self._table), self.keys, self._root)

    def parts(self) -> dict[str, str]:
        """Return the part of a split by key, as a column ``split`` of the table says, if any."""
        if not self._table or "split" not in column_names(self._table):
            return {}
        rows = read_table(self._table, ("path", "split"))
        return labels_of_keys({path: part for path, part in rows}, self.keys, self._root)

    def locate(self, key: str) -> str | None:
        """Return where an image is; None if that is not known."""
        if self.snapshot is not None:
            return self.snapshot.locate(key)
        return next((ref.uri for ref in self.refs if ref.key == key), None)

    def named(self, pairs: NamedPairs) -> tuple[list[str], list[str]]:
        """Return the keys of the images that pairs name, first and second ones."""
        return find_named(self.keys, pairs, self._root)


@dataclass(frozen=True)
class Embedded:
    """Images with their feature IDs, and those without.

    Attributes:
        vectors: by image key, float32 (dimension,); of an image with several faces, that of the
            largest one.
        failures: the images without a feature ID.
    """

    vectors: Mapping[str, Matrix]
    failures: Sequence[Failure]

    @property
    def keys(self) -> list[str]:
        """All images."""
        return [*self.vectors, *(failure.key for failure in self.failures)]


def of_snapshot(snapshot: Snapshot) -> Embedded:
    """Return the images of a snapshot."""
    columns = [layout.KEY, layout.VECTOR]
    if snapshot.model.faces and "box" in {spec.name for spec in snapshot.columns()}:
        columns.append("box")
    vectors: dict[str, Matrix] = {}
    for block in snapshot.blocks(columns):
        sizes = _areas(np.asarray(block["box"])) if "box" in columns else [0.0] * len(block["key"])
        rows = zip(block[layout.KEY], sizes, np.asarray(block[layout.VECTOR]), strict=True)
        for key, faces in groupby(rows, itemgetter(0)):
            vectors[key] = max(faces, key=itemgetter(1))[2]
    return Embedded(vectors, [failure for failure in snapshot.failures() if not failure.has_rows])


def _areas(boxes: Matrix) -> list[float]:
    left, top, right, bottom = boxes.astype(np.float64).T
    areas: list[float] = ((right - left) * (bottom - top)).tolist()
    return areas


def of_images(
    listed: Iterable[ImageRef | Failure],
    embedder: Embedder,
    progress: Callable[[int], Any] = lambda images: None,
) -> Embedded:
    """Embed images.

    Args:
        listed: images, and what could not be listed.
        embedder: the model; of several faces in an image, it takes one.
        progress: called with the number of images that are done.
    """
    items = [*listed]
    failures = [item for item in items if isinstance(item, Failure)]
    refs = sorted((item for item in items if isinstance(item, ImageRef)), key=lambda ref: ref.key)
    vectors: dict[str, Matrix] = {}
    for _, result in embed_all(refs, embedder):
        progress(1)
        if isinstance(result, Failure):
            failures.append(result)
        else:
            vectors[result.key] = result.vector
    return Embedded(vectors, failures)


def labeled(embedded: Embedded, labels: Mapping[str, str]) -> tuple[Images, list[Failure]]:
    """Return the images that have a label, with their classes, and those that failed of them.

    Args:
        embedded: images.
        labels: class by image key; "" and images without one are left out.
    """
    keys = sorted(key for key in embedded.vectors if labels.get(key))
    failures = sorted(failure for failure in embedded.failures if labels.get(failure.key))
    every = [*keys, *(failure.key for failure in failures)]
    if not keys:
        raise UsageError("no image with a feature ID has a label")
    names, classes = np.unique([labels[key] for key in every], return_inverse=True)
    vectors = np.stack([embedded.vectors[key] for key in keys])
    return Images(tuple(every), vectors, classes.astype(np.intp), tuple(names.tolist())), failures


def labels_by_folder(keys: Iterable[str]) -> dict[str, str]:
    """Return the class of each image by its folder.

    Raises:
        UsageError: no image is in a folder.
    """
    labels = {key: class_of(key) for key in keys}
    if not any(labels.values()):
        raise UsageError(
            "no image is in a folder of its class; give `labels`, a table of paths and labels"
        )
    return labels


def labels_of_keys(labels: Mapping[str, str], keys: Iterable[str], root: str) -> dict[str, str]:
    """Return labels by image key, of a table that names images by key or by path.

    Args:
        labels: class by key or path.
        keys: all images.
        root: the folder that their keys start in; "" if they do not.

    Raises:
        UsageError: none of the images is there.
    """
    known = set(keys)
    placed = {name: key_of(name, known, root) for name in labels}
    found = {placed[name]: label for name, label in labels.items() if placed[name] in known}
    if not found:
        raise UsageError(
            f"none of the {len(labels)} labeled images is there, such as {next(iter(labels))!r}; "
            f"the images have keys such as {next(iter(known), '')!r}"
        )
    if len(found) < len(labels):
        missing = next(name for name in labels if placed[name] not in known)
        _LOG.warning(
            "%d of %d labeled images are not there, such as %s",
            len(labels) - len(found),
            len(labels),
            missing,
        )
    return found
