"""What a user says of images: the class of each, and pairs to compare."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError, did_you_mean
from featureid.evaluation.folds import FOLDS
from featureid.input_manifest import MANIFEST_SUFFIXES, read_table
from featureid.inputs import current_folder
from featureid.keys import image_key
from featureid.storage import files

Rows = npt.NDArray[np.intp]

_SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_NUMBER = re.compile(r"\d+$")


def class_of(key: str) -> str:
    """Return the class that an image is of by its folder; "" for an image in no folder.

    >>> class_of("people/Anna/1.jpg")
    'people/Anna'
    """
    folder = str(PurePosixPath(key).parent)
    return "" if folder in (".", "/") else folder


def read_labels(path: str) -> dict[str, str]:
    """Return the class of each image in a table with the columns ``path`` and ``label``.

    Args:
        path: a CSV, TSV, JSON lines or Parquet file.

    Raises:
        UsageError: the table cannot be read, or an image has no label or two.
    """
    labels: dict[str, str] = {}
    for number, (image, label) in enumerate(read_table(path, ("path", "label")), start=1):
        if not image or not label:
            raise UsageError(f"{path!r}, row {number}: give both a path and a label")
        if labels.setdefault(image, label) != label:
            raise UsageError(
                f"{path!r}, row {number}: {image!r} is labeled {label!r}, and {labels[image]!r} "
                "before; keep one of them"
            )
    if not labels:
        raise UsageError(f"{path!r} has no rows")
    return labels


@dataclass(frozen=True)
class NamedPairs:
    """Pairs of images, as a file lists them.

    Attributes:
        path: of the file.
        images: the two images of each pair: keys, or in LFW's form ``person`` and ``number``.
        same: whether they are of one person or class.
        folds: the fold of each pair, (p,).
    """

    path: str
    images: tuple[tuple[str, str], ...]
    same: npt.NDArray[np.bool_]
    folds: Rows

    def names(self) -> set[str]:
        """Return all images that occur."""
        return {name for pair in self.images for name in pair}


def read_pairs(path: str) -> NamedPairs:
    """Return the pairs in a file: LFW's form, or a table.

    A table has the columns ``first``, ``second`` and ``same`` (1 or 0, true or false). LFW's form
    has a first line with the number of folds, if there are several, and of pairs of each kind in
    one; then for each fold first the same pairs, ``person number number``, and then the different
    ones, ``person number person number``. Without folds, ten are made of equal parts of both kinds.

    Raises:
        UsageError: the file cannot be read, or is in neither form; names the line.
    """
    if PurePosixPath(path).suffix.lower() in MANIFEST_SUFFIXES:
        listed = [*_table_pairs(path)]
        per_fold = 0
    else:
        listed, per_fold = _lfw_pairs(path)
    if not listed:
        raise UsageError(f"{path!r} has no pairs")
    same = np.array([alike for _, _, alike in listed])
    # Number of each pair among those of its kind.
    place = np.where(same, np.cumsum(same), np.cumsum(~same)) - 1
    kind = np.where(same, same.sum(), (~same).sum())
    folds = place // per_fold if per_fold else place * FOLDS // kind
    return NamedPairs(path, tuple((one, other) for one, other, _ in listed), same, folds)


def _table_pairs(path: str) -> Iterator[tuple[str, str, bool]]:
    rows = read_table(path, ("first", "second", "same"))
    for number, (first, second, same) in enumerate(rows, start=1):
        if same.lower() not in _SAME or not first or not second:
            raise UsageError(
                f"{path!r}, row {number}: give two images, and 1 or 0 for whether they are the same"
            )
        yield first, second, _SAME[same.lower()]


def _lfw_pairs(path: str) -> tuple[list[tuple[str, str, bool]], int]:
    """Return pairs with whether they are the same, and how many of a kind are in a fold, or 0."""
    try:
        lines = files.read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path!r} is not UTF-8 (byte {error.start}); write it anew") from error
    header = lines[0].split() if lines else []
    if len(header) not in (1, 2) or not all(map(str.isdecimal, header)):
        raise UsageError(
            f"{path!r} is not a file of pairs: a table ends in {', '.join(MANIFEST_SUFFIXES)}, and "
            "LFW's form has the number of pairs in its first line"
        )
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        match line.split("\t"):
            case [person, first, second] if (first + second).isdecimal():
                pairs.append((f"{person}/{int(first)}", f"{person}/{int(second)}", True))
            case [person, first, other, second] if (first + second).isdecimal():
                pairs.append((f"{person}/{int(first)}", f"{other}/{int(second)}", False))
            case _ if line.strip():
                raise UsageError(
                    f"{path!r}, line {number}: {line[:60]!r} is not a pair; expected a person and "
                    "two numbers, or twice a person and a number, with tabs in between"
                )
    return pairs, int(header[1]) if len(header) == 2 else 0


def key_of(name: str, known: Container[str], root: str) -> str:
    """Return the key of an image that a user names by key or by path.

    Args:
        name: a key or a path.
        known: all keys.
        root: the folder that keys start in; "" if they do not.
    """
    return name if name in known else image_key(files.absolute(name, current_folder()), root)


def find_named(keys: Iterable[str], pairs: NamedPairs, root: str) -> tuple[list[str], list[str]]:
    """Return the keys of the images of pairs: of the first ones, and of the second ones.

    Args:
        keys: of all images.
        pairs: names are keys or paths, or LFW's ``person/number`` for an image in the folder
            ``person`` whose name ends in the number.
        root: the folder that keys start in; "" if they do not.

    Raises:
        UsageError: there is no such image.
    """
    known = set(keys)
    by_name = {_lfw_name(key): key for key in known}
    names = pairs.names()
    found = {name: by_name.get(name) or key_of(name, known, root) for name in names}
    missing = sorted(name for name in names if found[name] not in known)
    if missing:
        raise UsageError(
            f"{pairs.path!r} names {missing[0]!r}, which is not there, as {len(missing)} of its "
            f"{len(names)} images{did_you_mean(missing[0], by_name)}"
        )
    first, second = zip(*pairs.images, strict=True)
    return [found[name] for name in first], [found[name] for name in second]


def _lfw_name(key: str) -> str:
    """Return ``Anna/7`` for ``people/Anna/Anna_0007.jpg``; the key for one without a number."""
    path = PurePosixPath(key)
    number = _NUMBER.search(path.stem)
    return f"{path.parent.name}/{int(number[0])}" if number else key


def classes_of_pairs(
    first: Sequence[str], second: Sequence[str], same: Sequence[bool]
) -> dict[str, str]:
    """Return the class of each image in pairs.

    It is that of its folder if the folders are as the pairs say. Otherwise, images that same pairs
    connect are of one class.
    """
    folders = {key: class_of(key) for key in (*first, *second)}
    agree = (
        (folders[one] == folders[other]) == alike
        for one, other, alike in zip(first, second, same, strict=True)
    )
    if all(folders.values()) and all(agree):
        return folders
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, other, alike in zip(first, second, same, strict=True):
        one, other = root(one), root(other)
        if alike:
            parent[one] = other
    return {key: root(key) for key in parent}
