"""What a new snapshot may do to the current one of its output folder.

A mistake (another model, an unmounted disk, a wrong input) must neither mix models nor empty a
gallery. Each of these checks stops a run before anything is published, and names what allows it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from featureid.errors import CorruptFileError, FeatureIdError, MixedModelsError, UsageError
from featureid.storage.records import ModelInfo, first_difference
from featureid.storage.snapshot import find_manifest, read_current

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)%", re.ASCII)
# The last image of a folder may go unnoticed; a folder that had several has lost them at once.
_SEVERAL = 2
_NAMED_FOLDERS = 3


@dataclass(frozen=True)
class DeletionLimit:
    """How many images of a snapshot may be missing from the one that replaces it.

    Attributes:
        images: this many.
        percent: or this share of all, in percent, if that is more.
    """

    images: int = 0
    percent: float = 0.0

    @classmethod
    def parse(cls, text: str) -> DeletionLimit:
        """Return the limit that ``100`` (images) or ``5%`` stands for.

        Raises:
            UsageError: it is neither.
        """
        if _NUMBER.fullmatch(text):
            return cls(images=int(text))
        share = _PERCENT.fullmatch(text)
        if share and float(share[1]) <= 100:
            return cls(percent=float(share[1]))
        raise UsageError(
            f"`max_deleted` is {text!r}; give a number of images, such as 100, or a share, from 0% "
            "to 100%"
        )

    def allows(self, missing: int, total: int) -> bool:
        """Return whether ``missing`` of ``total`` images may be missing."""
        return missing <= self.images or 100 * missing <= self.percent * total

    def of(self, total: int) -> int:
        """Return how many of ``total`` images may be missing."""
        share = math.floor(self.percent * total / 100)
        return max(self.images, share + self.allows(share + 1, total))


#: So that neither a handful of images in a small collection nor the usual changes of a large one
#: stop a run.
DEFAULT_LIMIT = DeletionLimit(images=5, percent=5.0)


@dataclass(frozen=True)
class Safeguards:
    """What a run is allowed to do to the snapshot that it replaces.

    Attributes:
        new_model: replace vectors of another model, preprocessing or choice of faces.
        max_deleted: how many images may be missing.
        allow_empty_folders: folders may lose all of their images.
    """

    new_model: bool = False
    max_deleted: DeletionLimit = DEFAULT_LIMIT
    allow_empty_folders: bool = False


def check_current(
    output: str, model: ModelInfo, safeguards: Safeguards, images: int | None = None
) -> None:
    """Check that a snapshot may replace the current one of an output folder, if it has one.

    Args:
        output: the folder that holds snapshots.
        model: of the new snapshot.
        safeguards: what is allowed.
        images: number of images in it; None if it is not known yet.

    Raises:
        MixedModelsError: the current snapshot is of another model.
        FeatureIdError: it has many more images.
        StorageError: it cannot be read, though it is not damaged.
    """
    if read_current(output).snapshot is None:
        return
    try:
        _, current = find_manifest(output)
    except CorruptFileError:
        return  # There is nothing left to protect, and embedding again is what helps.
    if not safeguards.new_model:
        check_model(output, current.info.model, model)
    total = current.counts.images
    if images is not None and not safeguards.max_deleted.allows(total - images, total):
        limit = safeguards.max_deleted.of(total)
        raise FeatureIdError(
            f"{output} has a snapshot of {total} images, and this one would have {images}: "
            f"{total - images} fewer, where at most {limit} may be missing. Nothing is published. "
            f"If it is to replace the other, add `max_deleted={total - images}`; otherwise give "
            "another `output`"
        )


def check_model(place: str, there: ModelInfo, here: ModelInfo) -> None:
    """Refuse to mix vectors of two models, or to replace those of one by those of another.

    Args:
        place: an output folder or a snapshot's folder.
        there: the model of the vectors in it.
        here: the model of the run.

    Raises:
        MixedModelsError: model, preprocessing or the choice of faces differ.
    """
    difference = first_difference(there, here)
    if difference is None and there.faces != here.faces:
        difference = "choice of faces", there.faces, here.faces
    if difference is None:
        return
    what, before, now = difference
    values = "" if before == there.digest else f": {before!r} there, {now!r} here"
    raise MixedModelsError(
        f"{place} holds vectors of the model {there.name!r} ({there.digest}); those of this run "
        f"are of the model {here.name!r} ({here.digest}). The {what} differs{values}. They are "
        "never mixed: give another `output` or, to replace those that it holds, add `new_model`"
    )


def check_missing(
    missing: Iterable[Mapping[str, int]],
    found: Iterable[str],
    total: int,
    safeguards: Safeguards,
) -> None:
    """Stop a run whose inputs lack too much of the previous snapshot.

    Args:
        missing: folder -> number of images missing in it, in one mapping or several.
        found: the folders in which there are images now, with or without those below them.
        total: number of images in the previous snapshot.
        safeguards: what is allowed.

    Raises:
        FeatureIdError: a folder has lost all of its images, or too many are missing.
    """
    folders: Counter[str] = Counter()
    for some in missing:
        folders.update(some)
    number, limit = folders.total(), safeguards.max_deleted
    if not number:
        return
    emptied = emptied_folders(folders, found)
    too_many = not limit.allows(number, total)
    gone = not safeguards.allow_empty_folders and any(
        sum(folders[folder] for folder in inside) >= _SEVERAL for inside in emptied.values()
    )
    if not too_many and not gone:
        return
    rules = [
        *([f"at most {limit.of(total)} may be missing"] if too_many else []),
        *(["no folder may lose all of its images"] if gone else []),
    ]
    ways = [
        *([f"`max_deleted={number}`"] if too_many else []),
        *(["`allow_empty_folders`"] if gone else []),
    ]
    raise FeatureIdError(
        f"{number} of the {total} images of the previous snapshot are missing: "
        f"{_places(folders, emptied)}; {' and '.join(rules)}. Nothing is published. Is a disk not "
        "mounted, or have inputs or `strip_prefix` changed? If the images are really gone, add "
        f"{' and '.join(ways)}"
    )


def emptied_folders(missing: Iterable[str], found: Iterable[str]) -> dict[str, list[str]]:
    """Return the folders that have lost all of their images.

    Args:
        missing: the folders in which images are missing.
        found: the folders in which there are images now, with or without those below them.

    Returns:
        Emptied folder -> the folders of ``missing`` that are in it, or it itself; of emptied
        folders inside of each other, only the topmost.
    """
    alive: set[str] = set()
    for folder in found:
        for above in _with_those_above(folder):
            if above in alive:
                break
            alive.add(above)
    groups: dict[str, list[str]] = {}
    for folder in missing:
        dead = [above for above in _with_those_above(folder) if above not in alive]
        if dead:
            groups.setdefault(dead[-1], []).append(folder)
    # The topmost may be a mere step on the way to images, as "/mnt" is to those in "/mnt/photos".
    return {_common_folder(folders): folders for folders in groups.values()}


def _common_folder(folders: Sequence[str]) -> str:
    """Return the deepest folder that all of these are in, or are."""
    common = folders[0]
    while not all(f"{folder}/".startswith(f"{common}/" if common else "") for folder in folders):
        common = common.rpartition("/")[0]
    return common


def _with_those_above(folder: str) -> Iterator[str]:
    """Yield a folder and all that it is in, up to "", the top of relative and absolute keys."""
    yield folder
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _places(missing: Mapping[str, int], emptied: Mapping[str, list[str]]) -> str:
    """Say in which folders images are missing, and in how many more."""
    partly = set(missing).difference(*emptied.values())
    places = [(missing[folder], "", folder) for folder in partly]
    for folder, inside in emptied.items():
        places.append((sum(missing[name] for name in inside), "all ", folder))
    places.sort(key=lambda place: (-place[0], place[2]))
    named = [f"{every}{n} in {folder or '.'!r}" for n, every, folder in places[:_NAMED_FOLDERS]]
    rest = places[_NAMED_FOLDERS:]
    if rest:
        named.append(f"and {sum(number for number, _, _ in rest)} in {len(rest)} more folders")
    return ", ".join(named)
